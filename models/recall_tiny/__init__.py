"""What `models/train_recall_tiny.py` is made of: words, facts, dialogues, tokenizer, network, training, export."""
