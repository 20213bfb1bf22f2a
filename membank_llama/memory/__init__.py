"""What users import: the bank, the drop-in around `llama_cpp.Llama`, and how memories get into a prompt."""
