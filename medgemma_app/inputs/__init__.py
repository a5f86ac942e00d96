"""Any file a user has -> what the model may see."""
