// Waiting: what the portal's widget shows to who waits, though it loads no history and asks nothing; and what happens
// to those who are gone.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, conversation, emptyDesk, stored, visitor } from './portal.mjs'
import { must, sql, start, subscribed, until } from './support.mjs'

let stack
before(async () => {
  stack = await start()
  // other tests' chats would give an estimate here
  await sql(stack, `update chat.settings set place_notice_every = '0', place_and_wait_notice = null`)
})
after(async () => {
  await sql(stack, 'update chat.settings set place_notice_every = default, place_and_wait_notice = default')
  await stack.stop()
})
beforeEach(() => emptyDesk(stack))

/** A customer with his widget open: what it shows is what came on its channels, and nothing else. */
async function widget() {
  const customer = await visitor(stack)
  const session = await customer.portal.startChatSession()
  const shown = []
  await customer.portal.subscribeToMessages(session.id, (message) => shown.push(message.message))
  return { ...customer, session, shown, shows: (text) => until(() => shown.includes(text), `"${text}"`) }
}

const seen = (table, column, id) =>
  until(
    async () => (await sql(stack, `select from chat.${table} where ${column} = $1`, [id])).length > 0,
    'the worker to have seen it',
  )

/** Somebody who is gone was seen last a while ago, and the worker has looked since. */
const longAgo = async (table, seen, column, id) => {
  await sql(stack, `update chat.${table} set ${seen} = now() - interval '5 minutes' where ${column} = $1`, [id])
  await sql(stack, `update chat.watch set steady_since = now() - interval '5 minutes'`)
}

test('who waits sees his place once his channel is open, and sees it change', async () => {
  const support = await agent(stack, { seats: 1 })
  const served = await widget()
  const first = await widget()
  await first.shows('You are next.')
  const second = await widget()
  await second.shows('You are number 2 in the queue.')
  assert.deepEqual(served.shown, [])

  await served.portal.endSession(served.session.id)
  await first.shows('You are now connected with an agent.')
  await second.shows('You are next.')
  assert.equal((await stored(stack, first.session.id)).agent_id, support.id)
  assert.deepEqual(first.shown, ['You are next.', 'You are now connected with an agent.'])
  assert.deepEqual(second.shown, ['You are number 2 in the queue.', 'You are next.'])
})

test('the first notice waits for a channel that opens late', async () => {
  const early = await widget()
  await early.shows('You are next.')
  const late = await visitor(stack)
  const session = await late.portal.startChatSession()
  // longer than a customer elsewhere takes to be told
  await sql(stack, `update chat.queue set entered_at = entered_at - interval '1 minute'`)
  const third = await widget()
  await third.shows('You are number 3 in the queue.')

  const shown = []
  await late.portal.subscribeToMessages(session.id, (message) => shown.push(message.message))
  await until(() => shown.length > 0, 'the place')
  assert.deepEqual(shown, ['You are number 2 in the queue.'])
})

test('a customer asks for his place, and for nobody else’s', async () => {
  const first = await widget()
  const second = await widget()
  const ask = async (who, session) => must(await who.client.rpc('chat_queue_status', { session_id: session.id }))
  const [{ wait_low_seconds, wait_high_seconds, ...status }] = await ask(second, second.session)
  assert.ok(wait_low_seconds === null || wait_low_seconds <= wait_high_seconds)
  assert.deepEqual(status, {
    queue_id: '00000000-0000-4000-8000-000000000137',
    queue_name: 'Default',
    queue_open: true,
    queue_position: 2,
    line_length: 2,
  })
  assert.deepEqual(await ask(second, first.session), [])
})

test('a customer whose browser is gone leaves the line', async () => {
  const first = await widget()
  const second = await widget()
  await seen('connections', 'session_id', first.session.id)
  await first.client.removeAllChannels()
  await until(async () => {
    await longAgo('connections', 'seen_at', 'session_id', first.session.id)
    return (await stored(stack, first.session.id)).status === 'abandoned'
  }, 'the session to be abandoned')
  await second.shows('You are next.')
})

test('an agent whose browser is gone loses who waits for him to another', async () => {
  const { support, customer, session } = await conversation(stack)
  await customer.portal.subscribeToMessages(session.id, () => {})
  const dashboard = support.client
    .channel('dashboard')
    .on('postgres_changes', { event: '*', schema: 'public', table: 'chat_sessions' }, () => {})
  await subscribed(dashboard)
  await until(async () => {
    const [row] = await sql(stack, 'select last_seen_at from chat.agents where user_id = $1', [support.id])
    return row.last_seen_at
  }, 'the agent to be seen')
  const other = await agent(stack)

  await support.client.removeAllChannels()
  await until(async () => {
    await longAgo('agents', 'last_seen_at', 'user_id', support.id)
    return (await stored(stack, session.id)).agent_id === other.id
  }, 'the other agent')
  const [{ status }] = await sql(stack, 'select status from public.support_agents where user_id = $1', [support.id])
  assert.equal(status, 'offline')
  assert.equal((await stored(stack, session.id)).status, 'active')
})

test('who closes his browser while typing types no more', async () => {
  const { support, customer, session } = await conversation(stack)
  await customer.portal.subscribeToMessages(session.id, () => {})
  const dots = []
  await support.portal.subscribeToTyping(session.id, (user, typing) => dots.push(typing))
  await seen('connections', 'session_id', session.id)
  must(await customer.portal.setTyping(session.id, true))
  await until(() => dots.length === 1, 'the dots')

  await customer.client.removeAllChannels()
  await until(() => dots.at(-1) === false, 'the dots to go')
})
