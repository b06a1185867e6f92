-- `updated_at` moves on every update, whatever was updated: it is no clock of the state.

CREATE FUNCTION public.set_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;

CREATE TRIGGER set_chats_updated_at BEFORE UPDATE ON public.chats
    FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();
CREATE TRIGGER set_operator_activity_updated_at BEFORE UPDATE ON public.operator_activity
    FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();

-- Defined by the fix, installed as a trigger on hardly any platform, and so not here either.
CREATE FUNCTION public.validate_chat_state_transition() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.chat_state IS NOT DISTINCT FROM NEW.chat_state THEN
        RETURN NEW;
    END IF;
    IF OLD.chat_state = 'completed' THEN
        RAISE EXCEPTION 'A completed chat cannot become %', NEW.chat_state;
    END IF;
    IF NEW.chat_state = 'assigned' AND OLD.chat_state <> 'waiting_assignment' THEN
        RAISE EXCEPTION 'Only a waiting chat can be assigned, not one in %', OLD.chat_state;
    END IF;
    IF NEW.chat_state = 'waiting_real_user_reply' AND OLD.chat_state <> 'assigned' THEN
        RAISE EXCEPTION 'Only an assigned chat can await its user, not one in %', OLD.chat_state;
    END IF;
    RETURN NEW;
END;
$$;
