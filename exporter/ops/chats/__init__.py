"""Which chats the gauges count: lists of chats, read-only and on demand."""
