"""Every error the package raises on purpose, in one tree.

    MembankError
    ├── InvalidInputError (ValueError)      what was passed in cannot be used
    │   ├── EmptyTextError                  nothing to remember in the text
    │   ├── TextTooLongError                longer than one memory may be
    │   ├── InvalidTextError                not storable as text (NUL, surrogate, not UTF-8)
    │   └── InvalidQueryError               top_k, levels, time range …
    ├── ModelError                          the model file or its vectors
    │   ├── ModelFileError (ValueError)     missing, not a GGUF, truncated, not loadable
    │   ├── ModelNotFoundError              a reference that leads to no file
    │   ├── EncodingError                   a vector of wrong shape, dtype or value
    │   └── ModelMismatchError              a bank made by another model
    ├── BankError                           the directory a bank lives in
    │   ├── BankNotFoundError               there is no bank here
    │   ├── BankFormatError                 made by a newer version, or not a bank
    │   ├── BankLockedError                 another process is writing
    │   ├── BankReadOnlyError               a write to a bank opened for reading
    │   ├── BankStorageError                the disk is full, read-only or failing
    │   ├── BankCorruptError                contents do not match their checksums
    │   └── BankClosedError                 used after close()
    ├── MemoryNotFoundError (KeyError)      no memory with this id
    └── MissingExtraError (ImportError)     an optional package is not installed

A message says what happened and what to do about it.
"""

from __future__ import annotations


class MembankError(Exception):
    """Base of every error raised by membank_llama."""


class InvalidInputError(MembankError, ValueError):
    """An argument cannot be used."""


class EmptyTextError(InvalidInputError):
    """The text holds nothing but white space."""


class TextTooLongError(InvalidInputError):
    """The text is longer than one memory may be."""


class InvalidTextError(InvalidInputError):
    """The text cannot be stored as Unicode text."""


class InvalidQueryError(InvalidInputError):
    """A recall was asked for with impossible parameters."""


class ModelError(MembankError):
    """Something is wrong with a model or with what it returned."""


class ModelFileError(ModelError, ValueError):
    """A model file is missing, damaged or not a GGUF."""


class ModelNotFoundError(ModelError):
    """A model reference does not lead to a file."""


class EncodingError(ModelError):
    """A model returned a vector of the wrong shape, dtype or value."""


class ModelMismatchError(ModelError):
    """A bank was opened with another model than the one that made it."""


class BankError(MembankError):
    """Something is wrong with the directory a bank lives in."""


class BankNotFoundError(BankError):
    """There is no bank at this path."""


class BankFormatError(BankError):
    """The bank's format is not one this version can read."""


class BankLockedError(BankError):
    """Another process is writing to the bank."""


class BankReadOnlyError(BankError):
    """The bank was opened for reading only."""


class BankStorageError(BankError):
    """The disk refused to read or write."""


class BankCorruptError(BankError):
    """Stored bytes do not match their checksum."""


class BankClosedError(BankError):
    """The bank was used after it was closed."""


class MemoryNotFoundError(MembankError, KeyError):
    """There is no memory with this id."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MissingExtraError(MembankError, ImportError):
    """An optional dependency is not installed."""
