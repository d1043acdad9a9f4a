-- A client's own id for a message: who sends again what he could not know to have arrived is not heard twice.
--
-- Optional. The second insert is refused as a duplicate (23505, status 409), or passed over where the client asks for
-- it: `upsert(message, { onConflict: 'sender_id,client_id', ignoreDuplicates: true })`.

alter table public.chat_messages add column client_id uuid;

-- A sender's, not a session's: messages move to the session that supersedes theirs, and the repetition may come after.
create unique index chat_messages_client_id on public.chat_messages (sender_id, client_id);

grant insert (client_id) on public.chat_messages to authenticated;
