"""Small repairs of single chats by a person, under a lock and recorded."""
