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
