-- The platform's tables before migrations 014 to 016, with every constraint and default of the
-- real ones: what is nullable here is nullable there.

CREATE TABLE public.admins (
    id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.operators (
    id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    is_active boolean DEFAULT true,
    is_available boolean DEFAULT false,
    last_activity timestamptz DEFAULT now(),
    total_messages integer DEFAULT 0 CHECK (total_messages >= 0),
    created_at timestamptz,
    created_by uuid REFERENCES public.admins (id)
);

CREATE TABLE public.real_users (
    id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    name text NOT NULL UNIQUE,
    display_name text NOT NULL,
    email text NOT NULL UNIQUE,
    location text NOT NULL,
    gender text NOT NULL CHECK (gender IN ('male', 'female')),
    looking_for text NOT NULL CHECK (looking_for IN ('male', 'female')),
    age integer NOT NULL CHECK (age >= 18 AND age <= 100),
    credits integer DEFAULT 0 CHECK (credits >= 0),
    is_active boolean DEFAULT true,
    latitude numeric,
    longitude numeric,
    profile_picture text,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);

CREATE TABLE public.fictional_users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    age integer NOT NULL CHECK (age >= 18 AND age <= 100),
    gender text NOT NULL CHECK (gender IN ('male', 'female')),
    location text NOT NULL,
    bio text,
    profile_pictures text [],
    is_active boolean
);

-- One chat for each pair, for ever: after its end the same two come back to the same row.
CREATE TABLE public.chats (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    real_user_id uuid NOT NULL REFERENCES public.real_users (id) ON DELETE CASCADE,
    fictional_user_id uuid NOT NULL REFERENCES public.fictional_users (id) ON DELETE CASCADE,
    real_profile_notes text DEFAULT '',
    fictional_profile_notes text DEFAULT '',
    message_count integer DEFAULT 0 CHECK (message_count >= 0),
    last_message_at timestamptz DEFAULT now(),
    assigned_operator_id uuid REFERENCES public.operators (id) ON DELETE SET NULL,
    assignment_time timestamptz,
    is_active boolean DEFAULT true,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    UNIQUE (real_user_id, fictional_user_id)
);

CREATE TABLE public.chat_assignments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    chat_id uuid NOT NULL REFERENCES public.chats (id) ON DELETE CASCADE,
    operator_id uuid NOT NULL REFERENCES public.operators (id) ON DELETE CASCADE,
    assigned_at timestamptz DEFAULT now(),
    released_at timestamptz,
    release_reason text,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.operator_activity (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    chat_id uuid NOT NULL REFERENCES public.chats (id) ON DELETE CASCADE,
    operator_id uuid NOT NULL REFERENCES public.operators (id) ON DELETE CASCADE,
    last_activity timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    UNIQUE (chat_id, operator_id)
);

CREATE TABLE public.messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    chat_id uuid NOT NULL REFERENCES public.chats (id) ON DELETE CASCADE,
    sender_type text NOT NULL CHECK (sender_type IN ('real', 'fictional')),
    content text NOT NULL CHECK (char_length(content) >= 1 AND char_length(content) <= 5000),
    handled_by_operator_id uuid REFERENCES public.operators (id) ON DELETE SET NULL,
    is_free_message boolean DEFAULT false,
    created_at timestamptz DEFAULT now(),
    delivered_at timestamptz,
    read_at timestamptz
);

CREATE TABLE public.platform_config (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key text NOT NULL UNIQUE,
    value jsonb NOT NULL,
    description text,
    updated_at timestamptz,
    updated_by uuid
);

INSERT INTO public.platform_config (key, value) VALUES
('idle_timeout_minutes', '5'),
('max_reassignments', '3'),
('free_message_count', '3'),
('credit_price_kes', '10'),
('maintenance_mode', 'false'),
('system_initialized', 'false');

-- Tables that neither the queue nor the exporter concerns itself with.
CREATE TABLE public.message_edits (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    message_id uuid NOT NULL REFERENCES public.messages (id) ON DELETE CASCADE,
    old_content text,
    edited_by uuid,
    edited_at timestamptz DEFAULT now()
);

CREATE TABLE public.moderation_actions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    real_user_id uuid REFERENCES public.real_users (id) ON DELETE CASCADE,
    admin_id uuid REFERENCES public.admins (id),
    action text,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.transactions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    real_user_id uuid REFERENCES public.real_users (id) ON DELETE CASCADE,
    credits integer,
    amount_kes numeric,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.favorites (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    real_user_id uuid REFERENCES public.real_users (id) ON DELETE CASCADE,
    fictional_user_id uuid REFERENCES public.fictional_users (id) ON DELETE CASCADE,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.operator_stats (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    operator_id uuid REFERENCES public.operators (id) ON DELETE CASCADE,
    day date,
    messages_sent integer DEFAULT 0
);
