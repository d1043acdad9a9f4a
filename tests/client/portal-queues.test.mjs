// Departments: what leads set up, customers ask for and agents do with a chat, all through supabase-js.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, emptyDesk, stored, visitor } from './portal.mjs'
import { must, sql, start, until } from './support.mjs'

let stack, lead
before(async () => {
  stack = await start()
  lead = await visitor(stack, { role: 'support_manager' })
})
after(() => stack?.stop())
beforeEach(async () => {
  await emptyDesk(stack)
  await sql(stack, 'delete from public.chat_queues where not is_default')
})

const queue = async (columns, ...members) => {
  const made = must(await lead.client.from('chat_queues').insert(columns).select().single())
  if (members.length) {
    const rows = members.map(({ id }) => ({ queue_id: made.id, agent_id: id }))
    must(await lead.client.from('chat_queue_members').insert(rows))
  }
  return made
}

const begin = async (customer, columns = {}) =>
  must(
    await customer.client
      .from('chat_sessions')
      .insert({ customer_id: customer.id, customer_name: 'x', customer_email: 'x@example.com', ...columns })
      .select('id, status, agent_id, queue_id, priority, queue:chat_queues(name)')
      .single(),
  )

test('a lead sets up a queue, and its members serve it', async () => {
  const [sales, support] = [await agent(stack), await agent(stack)]
  const { id } = await queue({ name: 'Sales' }, sales)
  const customer = await visitor(stack)
  const offered = must(await customer.client.from('chat_queues').select('id, name').order('name'))
  assert.deepEqual(offered.map(({ name }) => name), ['Default', 'Sales'])
  const chat = await begin(customer, { queue_id: id })
  assert.deepEqual([chat.agent_id, chat.queue.name], [sales.id, 'Sales'])
  assert.deepEqual(must(await support.client.from('chat_sessions').select('id')), [])
})

test('an agent without skills is not given who asks for them', async () => {
  const [polyglot] = [await agent(stack, { seats: 1 }), await agent(stack)]
  must(await lead.client.from('chat_agents').update({ skills: ['french'] }).eq('user_id', polyglot.id))
  const first = await begin(await visitor(stack), { required_skills: ['french'] })
  assert.equal(first.agent_id, polyglot.id)
  const second = await begin(await visitor(stack), { required_skills: ['french'] })
  assert.equal(second.agent_id, null)
  assert.equal((await stored(stack, second.id)).status, 'waiting')
})

test('customers set up nothing and do not put themselves first', async () => {
  const customer = await visitor(stack)
  for (const { error } of [
    await customer.client.from('chat_queues').insert({ name: 'mine' }),
    await customer.client.from('chat_queue_members').insert({
      queue_id: '00000000-0000-4000-8000-000000000137',
      agent_id: customer.id,
    }),
    await customer.client.from('chat_sessions').insert({ customer_name: 'x', customer_email: 'x', priority: 100 }),
  ]) {
    assert.equal(error?.code, '42501')
  }
  for (const table of ['chat_agents', 'chat_settings', 'chat_session_events', 'chat_session_legs']) {
    assert.deepEqual(must(await customer.client.from(table).select()), [], table)
  }
})

test('a wrong set-up is refused with the name of the rule', async () => {
  for (const [columns, constraint] of [
    [{ name: '' }, 'chat_queues_name_check'],
    [{ name: 'default' }, 'chat_queues_name_per_tenant'],
    [{ name: 'A', routing: 'by mood' }, 'chat_queues_routing_check'],
    [{ name: 'A', priority: 101 }, 'chat_queues_priority_check'],
  ]) {
    const { error } = await lead.client.from('chat_queues').insert(columns)
    assert.match(error.message, new RegExp(constraint))
  }
})

test('a chat is taken, handed on with a word, given back and taken over; the history tells it', async () => {
  const [first, second] = [await agent(stack, { status: 'offline' }), await agent(stack, { status: 'offline' })]
  const { id: session_id } = await begin(await visitor(stack))
  must(await first.client.rpc('chat_take', { session_id }))
  must(await first.client.rpc('chat_transfer', { session_id, agent_id: second.id, comment: 'about invoices' }))
  assert.equal((await stored(stack, session_id)).agent_id, second.id)
  const { error } = await first.client.rpc('chat_requeue', { session_id })
  assert.equal(error.code, '42501')
  must(await second.client.rpc('chat_requeue', { session_id }))
  assert.equal((await stored(stack, session_id)).status, 'waiting')
  must(await lead.client.rpc('chat_take', { session_id }))
  const told = must(
    await lead.client.from('chat_session_events').select('kind, actor, agent_id, details').eq('session_id', session_id).order('id'),
  )
  assert.deepEqual(told.map(({ kind }) => kind), ['queued', 'assigned', 'transferred', 'requeued', 'queued', 'assigned'])
  assert.equal(told[2].details.comment, 'about invoices')
  assert.deepEqual([told[5].actor, told[5].agent_id], ['agent', lead.id])
  const legs = must(
    await lead.client.from('chat_session_legs').select('agent_id, outcome').eq('session_id', session_id).order('id'),
  )
  assert.deepEqual(legs, [
    { agent_id: first.id, outcome: 'transferred' },
    { agent_id: second.id, outcome: 'returned' },
    { agent_id: lead.id, outcome: null },
  ])
})

test('who refuses a chat is not given it again', async () => {
  const only = await agent(stack)
  const { id: session_id } = await begin(await visitor(stack))
  must(await only.client.rpc('chat_reject', { session_id }))
  must(await only.setStatus('away'))
  must(await only.setStatus('available'))
  assert.equal((await stored(stack, session_id)).status, 'waiting')
  const other = await agent(stack)
  assert.equal((await stored(stack, session_id)).agent_id, other.id)
})

test('the portal hands a chat to a queue by writing the row', async () => {
  const [first, specialist] = [await agent(stack), await agent(stack, { status: 'offline' })]
  const { id: returns } = await queue({ name: 'Returns' }, specialist)
  const chat = await begin(await visitor(stack))
  must(await first.client.from('chat_sessions').update({ queue_id: returns }).eq('id', chat.id))
  const row = await stored(stack, chat.id)
  assert.deepEqual([row.status, row.queue_id, row.agent_id], ['waiting', returns, null])
  must(await specialist.setStatus('available'))
  assert.equal((await stored(stack, chat.id)).agent_id, specialist.id)
})

test('more seats let somebody in, without a restart', async () => {
  const only = await agent(stack, { seats: 1 })
  await begin(await visitor(stack))
  const second = await begin(await visitor(stack))
  const { error } = await only.client.from('chat_agents').update({ capacity: 9 }).eq('user_id', only.id).select().single()
  assert.equal(error.code, 'PGRST116', 'an agent does not set his own seats')
  must(await lead.client.from('chat_agents').update({ capacity: 2 }).eq('user_id', only.id))
  await until(async () => (await stored(stack, second.id)).agent_id === only.id, 'the worker gives the new seat away')
})
