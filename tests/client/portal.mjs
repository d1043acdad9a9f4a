// A portal as its programmers write it: the calls its chat makes through supabase-js, the people who make them, and
// the desk they meet at. `Portal` is the contract; its requests may not change to please the backend.

import { changes, client, must, sql, subscribed, user } from './support.mjs'

/** The chat of one browser. Answers that a portal throws away are returned, so that tests can look at them. */
export class Portal {
  /**
   * @param {object} supabase client
   * @param {() => number} [clock] the browser's clock, which may be wrong
   */
  constructor(supabase, clock = Date.now) {
    this.supabase = supabase
    this.clock = clock
  }

  async #me() {
    const { data } = await this.supabase.auth.getUser()
    return data.user?.id
  }

  #now() {
    return new Date(this.clock()).toISOString()
  }

  /** Returns the row of the insert, as a widget keeps it: what assignment did afterwards is not read. */
  async startChatSession({ customer_name = 'Guest User', customer_email = 'guest@example.com', page_url } = {}) {
    const customer_id = await this.#me()
    const session = must(
      await this.supabase
        .from('chat_sessions')
        .insert({ customer_id, customer_name, customer_email, page_url, status: 'waiting' })
        .select()
        .single(),
    )
    await this.#assignToAgent(session.id)
    return session
  }

  async #assignToAgent(id) {
    const { data: agents } = await this.supabase
      .from('support_agents')
      .select('user_id')
      .eq('status', 'available')
      .eq('is_accepting_tickets', true)
      .limit(1)
    if (agents?.length) await this.assign(id, agents[0].user_id)
  }

  /** The request with which a browser claims an agent. */
  assign(id, agent_id) {
    return this.supabase.from('chat_sessions').update({ agent_id, status: 'active' }).eq('id', id)
  }

  async getSession(id) {
    const { data } = await this.supabase
      .from('chat_sessions')
      .select(
        `*,
        customer:auth.users!customer_id(id, full_name, email),
        agent:auth.users!agent_id(id, full_name, email)`,
      )
      .eq('id', id)
      .single()
    return data
  }

  async getMessages(id) {
    return must(
      await this.supabase
        .from('chat_messages')
        .select(
          `*,
          sender:auth.users!sender_id(id, full_name, avatar_url)`,
        )
        .eq('session_id', id)
        .order('created_at', { ascending: true }),
    )
  }

  async sendMessage({ session_id, message, sender_type, message_type = 'text' }) {
    const sender_id = await this.#me()
    const sent = must(
      await this.supabase
        .from('chat_messages')
        .insert({ session_id, sender_id, sender_type, message, message_type })
        .select()
        .single(),
    )
    if (sender_type === 'agent') {
      await this.supabase
        .from('chat_sessions')
        .update({ agent_joined_at: this.#now() })
        .eq('id', session_id)
        .is('agent_joined_at', null)
    }
    return sent
  }

  async setTyping(session_id, is_typing) {
    const user_id = await this.#me()
    const table = this.supabase.from('chat_typing_indicators')
    return is_typing
      ? await table.upsert({ session_id, user_id, is_typing, updated_at: this.#now() })
      : await table.delete().eq('session_id', session_id).eq('user_id', user_id)
  }

  /** Calls back with each new message; resolves to the way out once it listens. */
  async subscribeToMessages(id, callback) {
    const channel = this.supabase.channel(`chat:${id}`).on(
      'postgres_changes',
      { event: 'INSERT', schema: 'public', table: 'chat_messages', filter: `session_id=eq.${id}` },
      (payload) => callback(payload.new),
    )
    await subscribed(channel)
    return () => channel.unsubscribe()
  }

  /** Calls back with who types or no longer does; resolves to the way out once it listens. */
  async subscribeToTyping(id, callback) {
    const channel = this.supabase.channel(`typing:${id}`).on(
      'postgres_changes',
      { event: '*', schema: 'public', table: 'chat_typing_indicators', filter: `session_id=eq.${id}` },
      (payload) =>
        payload.eventType === 'DELETE'
          ? callback(payload.old.user_id, false)
          : callback(payload.new.user_id, payload.new.is_typing),
    )
    await subscribed(channel)
    return () => channel.unsubscribe()
  }

  async endSession(id, rating, comment) {
    const { data: session } = await this.supabase
      .from('chat_sessions')
      .select('started_at, agent_joined_at')
      .eq('id', id)
      .single()
    const updates = { status: 'ended', ended_at: this.#now() }
    if (session) {
      const seconds = (until) => Math.floor((until - new Date(session.started_at)) / 1000)
      updates.chat_duration_seconds = seconds(this.clock())
      if (session.agent_joined_at) updates.wait_time_seconds = seconds(new Date(session.agent_joined_at))
    }
    if (rating) {
      updates.rating = rating
      updates.feedback_comment = comment
      updates.feedback_submitted_at = this.#now()
    }
    must(await this.supabase.from('chat_sessions').update(updates).eq('id', id))
  }

  async uploadFile(id, file) {
    const name = `${id}/${this.clock()}-${file.name}`
    const bucket = this.supabase.storage.from('chat-attachments')
    must(await bucket.upload(name, file))
    return bucket.getPublicUrl(name).data.publicUrl
  }
}

/** A signed-in user with a portal of his own. */
export async function visitor(stack, options) {
  const made = await user(stack, options)
  return { ...made, portal: new Portal(made.client) }
}

/** Somebody with the public key and nothing else. */
export function anonymous(stack) {
  const made = client(stack)
  return { client: made, portal: new Portal(made) }
}

/** A support agent with so many seats, at the desk unless `status` says otherwise. */
export async function agent(stack, { seats = 3, status = 'available', ...options } = {}) {
  const made = await visitor(stack, { role: 'support_agent', ...options })
  await sql(stack, `insert into public.support_agents (user_id, status) values ($1, 'offline')`, [made.id])
  await sql(stack, 'update chat.agents set capacity = $2 where user_id = $1', [made.id, seats])
  const setStatus = (status) =>
    made.client.from('support_agents').update({ status, is_accepting_tickets: true }).eq('user_id', made.id)
  if (status !== 'offline') must(await setStatus(status))
  return { ...made, setStatus }
}

/** The session as the database has it, whatever anybody may see of it. */
export async function stored(stack, id) {
  const [row] = await sql(stack, 'select * from public.chat_sessions where id = $1', [id])
  return row
}

/** The messages people wrote, without the system's. */
export const spoken = (messages) => messages.filter((each) => each.sender_type !== 'system')

/** An empty desk: nobody at it, nobody waiting, whatever an earlier test left. */
export async function emptyDesk(stack) {
  await sql(stack, `update public.support_agents set status = 'offline' where status <> 'offline'`)
  await sql(stack, `update public.chat_sessions set status = 'ended' where status in ('waiting', 'active')`)
}

/** A chat under way: a customer with an agent, and the session as the customer's browser got it. */
export async function conversation(stack) {
  const support = await agent(stack)
  const customer = await visitor(stack)
  const session = await customer.portal.startChatSession()
  return { support, customer, session }
}

/**
 * Ears of somebody who subscribes to everything the chat publishes, without a filter. `silence()` resolves to what
 * was heard of the chat until now: a row that everybody may hear is written, and changes come in order.
 */
export async function ears(stack, supabase) {
  await sql(
    stack,
    `do $$ begin
       create table if not exists public.beacons (id bigint generated always as identity primary key);
       alter table public.beacons enable row level security;
       grant select on public.beacons to anon, authenticated;
       if not exists (select from pg_policies where tablename = 'beacons') then
         create policy "Everybody sees beacons" on public.beacons for select using (true);
         alter publication supabase_realtime add table public.beacons;
       end if;
     end $$`,
  )
  const heard = await changes(
    supabase,
    { table: 'chat_sessions' },
    { table: 'chat_messages' },
    { table: 'chat_typing_indicators' },
    { table: 'beacons' },
  )
  return {
    async silence() {
      const [{ id }] = await sql(stack, 'insert into public.beacons default values returning id')
      await heard.next((change) => change.table === 'beacons' && Number(change.new.id) === Number(id), 'the beacon')
      return heard.list.filter((change) => change.table !== 'beacons')
    },
  }
}
