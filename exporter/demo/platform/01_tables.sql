-- The platform's tables as they stand after migrations 014 to 016.

CREATE TABLE public.real_users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.fictional_users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.operators (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    is_active boolean NOT NULL DEFAULT true,
    is_available boolean NOT NULL DEFAULT true,
    last_activity timestamptz DEFAULT now(),
    total_messages integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.chats (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    real_user_id uuid NOT NULL REFERENCES public.real_users (id) ON DELETE CASCADE,
    fictional_user_id uuid NOT NULL REFERENCES public.fictional_users (id) ON DELETE CASCADE,
    is_active boolean DEFAULT true,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    last_message_at timestamptz,
    message_count integer DEFAULT 0,
    assigned_operator_id uuid REFERENCES public.operators (id) ON DELETE SET NULL,
    assignment_time timestamptz,
    -- Since migration 014. The state may be NULL: a check passes on NULL.
    chat_state text DEFAULT 'waiting_assignment'
        CONSTRAINT chats_chat_state_check CHECK (
            chat_state IN
            ('waiting_assignment', 'assigned', 'waiting_real_user_reply', 'completed')
        ),
    last_operator_id uuid REFERENCES public.operators (id) ON DELETE SET NULL,
    operator_replied_at timestamptz,
    CONSTRAINT chk_assigned_state_has_operator
        CHECK (chat_state <> 'assigned' OR assigned_operator_id IS NOT NULL),
    CONSTRAINT chk_waiting_reply_has_timestamp
        CHECK (chat_state <> 'waiting_real_user_reply' OR operator_replied_at IS NOT NULL)
);

CREATE TABLE public.chat_assignments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    chat_id uuid NOT NULL REFERENCES public.chats (id) ON DELETE CASCADE,
    operator_id uuid NOT NULL REFERENCES public.operators (id) ON DELETE CASCADE,
    assigned_at timestamptz NOT NULL DEFAULT now(),
    released_at timestamptz,
    release_reason text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.operator_activity (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    chat_id uuid NOT NULL REFERENCES public.chats (id) ON DELETE CASCADE,
    operator_id uuid NOT NULL REFERENCES public.operators (id) ON DELETE CASCADE,
    last_activity timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (chat_id, operator_id)
);

CREATE TABLE public.messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    chat_id uuid NOT NULL REFERENCES public.chats (id) ON DELETE CASCADE,
    sender_type text NOT NULL CHECK (sender_type IN ('real', 'fictional')),
    content text NOT NULL,
    handled_by_operator_id uuid REFERENCES public.operators (id) ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.platform_config (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key text NOT NULL UNIQUE,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO public.platform_config (key, value) VALUES
    ('idle_timeout_minutes', '5'),
    ('max_reassignments', '3'),
    ('maintenance_mode', 'false');
