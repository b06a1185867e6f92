"""Small repairs of single chats, by a person: look, judge, and do it under a lock or not at all."""
