-- Row-level security on every table and no policy for any plain role: the application uses a
-- role that bypasses it. A role with SELECT alone reads zero rows, without an error.

ALTER TABLE public.real_users ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.fictional_users ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.operators ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.chats ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.chat_assignments ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.operator_activity ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.platform_config ENABLE ROW LEVEL SECURITY;
