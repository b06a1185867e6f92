-- `updated_at` moves on every update, whatever was updated: it is no clock of the state.

CREATE FUNCTION public.update_updated_at_column() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;

CREATE TRIGGER update_chats_updated_at BEFORE UPDATE ON public.chats
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_operator_activity_updated_at BEFORE UPDATE ON public.operator_activity
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_real_users_updated_at BEFORE UPDATE ON public.real_users
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();

-- Every message locks and touches its chat.
CREATE FUNCTION public.update_chat_message_count() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.chats
    SET message_count = message_count + 1,
        last_message_at = NEW.created_at,
        updated_at = now()
    WHERE id = NEW.chat_id;
    RETURN NEW;
END;
$$;

CREATE TRIGGER trigger_update_chat_message_count AFTER INSERT ON public.messages
    FOR EACH ROW EXECUTE FUNCTION public.update_chat_message_count();

-- With the rights of whoever inserts the message.
CREATE FUNCTION public.increment_operator_messages() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.handled_by_operator_id IS NOT NULL THEN
        UPDATE public.operators
        SET total_messages = total_messages + 1
        WHERE id = NEW.handled_by_operator_id;
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER trigger_increment_operator_messages AFTER INSERT ON public.messages
    FOR EACH ROW EXECUTE FUNCTION public.increment_operator_messages();

-- Defined by the fix, installed as a trigger on hardly any platform, and so not here either.
-- It refuses only what the two constraints refuse as well.
CREATE FUNCTION public.validate_chat_state_transition() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.chat_state IS DISTINCT FROM NEW.chat_state THEN
        RAISE NOTICE 'Chat % goes from % to %', NEW.id, OLD.chat_state, NEW.chat_state;
    END IF;
    IF NEW.chat_state = 'assigned' AND NEW.assigned_operator_id IS NULL THEN
        RAISE EXCEPTION 'An assigned chat needs an operator';
    END IF;
    IF NEW.chat_state = 'waiting_real_user_reply' AND NEW.operator_replied_at IS NULL THEN
        RAISE EXCEPTION 'A chat that waits for its user needs the time of the reply';
    END IF;
    RETURN NEW;
END;
$$;
