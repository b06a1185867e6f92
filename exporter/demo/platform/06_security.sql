-- Row-level security on every table. The application writes as the tables' owner or through the
-- host's API; a role with SELECT alone reads zero rows of most of them, without an error.

ALTER TABLE public.admins ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.operators ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.real_users ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.fictional_users ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.chats ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.chat_assignments ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.operator_activity ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.platform_config ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.message_edits ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.moderation_actions ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.transactions ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.favorites ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.operator_stats ENABLE ROW LEVEL SECURITY;

-- By who asks: admins everything, operators and users what is theirs.
CREATE POLICY "Admins read admins" ON public.admins
    FOR SELECT USING (id = auth.uid());
CREATE POLICY "Admins manage operators" ON public.operators
    USING (EXISTS (SELECT FROM public.admins AS a WHERE a.id = auth.uid()));
CREATE POLICY "Operators read themselves" ON public.operators
    FOR SELECT USING (id = auth.uid());
CREATE POLICY "Admins manage users" ON public.real_users
    USING (EXISTS (SELECT FROM public.admins AS a WHERE a.id = auth.uid()));
CREATE POLICY "Users manage themselves" ON public.real_users
    USING (id = auth.uid());
CREATE POLICY "Anybody signed in reads personas" ON public.fictional_users
    FOR SELECT USING (auth.uid() IS NOT NULL);
CREATE POLICY "Admins manage chats" ON public.chats
    USING (EXISTS (SELECT FROM public.admins AS a WHERE a.id = auth.uid()));
CREATE POLICY "Users manage their chats" ON public.chats
    USING (real_user_id = auth.uid());
CREATE POLICY "Operators read chats" ON public.chats
    FOR SELECT USING (EXISTS (SELECT FROM public.operators AS o WHERE o.id = auth.uid()));
CREATE POLICY "Admins manage messages" ON public.messages
    USING (EXISTS (SELECT FROM public.admins AS a WHERE a.id = auth.uid()));
CREATE POLICY "Operators manage messages" ON public.messages
    USING (EXISTS (SELECT FROM public.operators AS o WHERE o.id = auth.uid()));
CREATE POLICY "Users manage their messages" ON public.messages
    USING (EXISTS (
        SELECT FROM public.chats AS c WHERE c.id = chat_id AND c.real_user_id = auth.uid()
    ));
CREATE POLICY "Admins manage the configuration" ON public.platform_config
    USING (EXISTS (SELECT FROM public.admins AS a WHERE a.id = auth.uid()));

-- For anybody at all. Permissive policies are OR-ed: whoever is granted UPDATE on these tables
-- may update every row of them, unless a restrictive policy says no.
CREATE POLICY "System can update chats" ON public.chats
    FOR UPDATE USING (true);
CREATE POLICY "System can update operators" ON public.operators
    FOR UPDATE USING (true);
CREATE POLICY "System can manage assignments" ON public.chat_assignments
    FOR ALL USING (true);
CREATE POLICY "System can manage activity" ON public.operator_activity
    FOR ALL USING (true);
CREATE POLICY "Anybody reads the maintenance mode" ON public.platform_config
    FOR SELECT USING (key = 'maintenance_mode');
