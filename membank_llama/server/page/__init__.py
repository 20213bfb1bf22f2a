"""The page: what people look at a bank and change it with in a browser."""
