// Starting a chat: assignment, the waiting room and the queue.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, anonymous, emptyDesk, spoken, stored, visitor } from './portal.mjs'
import { must, sql, start, until } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

const place = async (id) => {
  const { status, queue_position } = await stored(stack, id)
  return `${status} ${queue_position}`
}

test('with an agent at the desk the returned row is active and names him', async () => {
  const support = await agent(stack)
  const customer = await visitor(stack)
  const session = await customer.portal.startChatSession({ page_url: 'https://shop.example/cart' })
  assert.equal(session.status, 'active')
  assert.equal(session.agent_id, support.id)
  assert.equal(session.customer_id, customer.id)
  assert.equal(session.page_url, 'https://shop.example/cart')
  assert.equal(session.queue_position, null)
  assert.match(session.session_number, /^CHAT-\d{8}$/)
  assert.equal(session.messages_count, 0)
  const now = await stored(stack, session.id)
  assert.equal(now.status, 'active')
  assert.equal(now.agent_id, support.id)
})

test('customer and agent read the session with both people in it', async () => {
  const support = await agent(stack, { data: { full_name: 'Ada Agent' } })
  const customer = await visitor(stack, { data: { full_name: 'Carl Customer' } })
  const { id } = await customer.portal.startChatSession()
  const his = await customer.portal.getSession(id)
  assert.deepEqual(his.customer, { id: customer.id, full_name: 'Carl Customer', email: customer.email })
  assert.equal(his.agent.id, support.id)
  assert.equal(his.agent.full_name, 'Ada Agent')
  assert.equal(his.agent.email, null, "an agent's address is not for customers")
  const theirs = await support.portal.getSession(id)
  assert.deepEqual(theirs.customer, { id: customer.id, full_name: 'Carl Customer', email: customer.email })
})

test("a known user's name and address come from his account", async () => {
  await agent(stack)
  const customer = await visitor(stack, { data: { full_name: 'Carl Customer' } })
  const session = await customer.portal.startChatSession({ customer_name: 'The CEO', customer_email: 'ceo@example.com' })
  assert.equal(session.customer_name, 'Carl Customer')
  assert.equal(session.customer_email, customer.email)
})

test('without an agent the browser is told active, the database says waiting, in order of arrival', async () => {
  const sessions = []
  for (let turn = 0; turn < 3; turn += 1) {
    const customer = await visitor(stack)
    const session = await customer.portal.startChatSession()
    assert.equal(session.status, 'active', 'a widget enables its input by this row alone')
    assert.equal(session.agent_id, null)
    const read = await customer.portal.getSession(session.id)
    assert.equal(read.status, 'waiting')
    sessions.push(session)
  }
  await until(
    async () => (await Promise.all(sessions.map(({ id }) => place(id)))).join() === 'waiting 1,waiting 2,waiting 3',
    'places 1, 2 and 3 in the queue',
  )
})

test('an agent who becomes available takes the head of the queue, and everybody moves up', async () => {
  const first = await visitor(stack)
  const second = await visitor(stack)
  const third = await visitor(stack)
  const sessions = []
  for (const customer of [first, second, third]) sessions.push(await customer.portal.startChatSession())
  const [one, two, three] = sessions

  const support = await agent(stack, { seats: 1 })
  await until(async () => (await place(one.id)) === 'active null', 'the first customer to be served')
  assert.equal((await stored(stack, one.id)).agent_id, support.id)
  await until(
    async () => (await place(two.id)) === 'waiting 1' && (await place(three.id)) === 'waiting 2',
    'the others to move up',
  )

  await first.portal.endSession(one.id)
  await until(async () => (await place(two.id)) === 'active null', 'the second customer to be served')
  await until(async () => (await place(three.id)) === 'waiting 1', 'the third customer to move up')

  await support.portal.endSession(two.id)
  await until(async () => (await place(three.id)) === 'active null', 'the third customer to be served')
})

test('somebody who leaves the queue lets the others move up', async () => {
  const first = await visitor(stack)
  const second = await visitor(stack)
  const one = await first.portal.startChatSession()
  const two = await second.portal.startChatSession()
  await first.portal.endSession(one.id)
  await until(async () => (await place(two.id)) === 'waiting 1', 'the second customer to move up')
  assert.equal((await stored(stack, one.id)).status, 'abandoned', 'nobody had answered')
})

test('the one who waits is told so where the widget shows it', async () => {
  const customer = await visitor(stack)
  const heard = []
  const { id } = await customer.portal.startChatSession()
  await customer.portal.subscribeToMessages(id, (message) => heard.push(message))
  const told = async (what) => [...heard, ...(await customer.portal.getMessages(id))].some(what)
  await until(() => told((each) => each.sender_type === 'system' && each.sender_id === null), 'a word of the system')
  const support = await agent(stack)
  await until(async () => (await stored(stack, id)).agent_id === support.id, 'an agent')
  await customer.portal.sendMessage({ session_id: id, message: 'at last', sender_type: 'customer' })
  await until(() => spoken(heard).some((each) => each.message === 'at last'), 'his own message')
})

test('no agent gets more chats than he has seats, however many start at once', async () => {
  const agents = [await agent(stack, { seats: 2 }), await agent(stack, { seats: 1 })]
  const customers = await Promise.all(Array.from({ length: 6 }, () => visitor(stack)))
  const sessions = await Promise.all(customers.map(({ portal }) => portal.startChatSession()))
  const rows = await Promise.all(sessions.map(({ id }) => stored(stack, id)))
  const count = (id) => rows.filter((row) => row.agent_id === id).length
  assert.deepEqual(agents.map(({ id }) => count(id)), [2, 1])
  assert.equal(rows.filter((row) => row.status === 'waiting').length, 3)
})

test('an agent who accepts no chats or is away gets none', async () => {
  const away = await agent(stack, { status: 'offline' })
  const busy = await agent(stack)
  await sql(stack, 'update public.support_agents set is_accepting_tickets = false where user_id = $1', [busy.id])
  const customer = await visitor(stack)
  const { id } = await customer.portal.startChatSession()
  const row = await stored(stack, id)
  assert.equal(row.status, 'waiting')
  assert.ok(![away.id, busy.id].includes(row.agent_id))
})

test('a second chat of the same customer takes the place of the first', async () => {
  await agent(stack, { seats: 1 })
  const customer = await visitor(stack)
  const first = await customer.portal.startChatSession()
  await customer.portal.sendMessage({ session_id: first.id, message: 'before the reload', sender_type: 'customer' })
  const second = await customer.portal.startChatSession()
  assert.equal(second.status, 'active')
  assert.equal(second.agent_id, first.agent_id, 'the agent goes along')
  assert.equal((await stored(stack, first.id)).status, 'ended')
  const [carried] = spoken(await customer.portal.getMessages(second.id))
  assert.equal(carried.message, 'before the reload', 'what nobody answered goes along')
  const open = await sql(
    stack,
    `select id from public.chat_sessions where customer_id = $1 and status in ('waiting', 'active')`,
    [customer.id],
  )
  assert.deepEqual(open, [{ id: second.id }])
})

test('a second chat of a waiting customer keeps his place', async () => {
  const first = await visitor(stack)
  const second = await visitor(stack)
  await first.portal.startChatSession()
  const two = await second.portal.startChatSession()
  const again = await first.portal.startChatSession()
  await until(
    async () => (await place(again.id)) === 'waiting 1' && (await place(two.id)) === 'waiting 2',
    'the first customer to keep his place',
  )
})

test('what a customer may not choose is not his choice', async () => {
  const support = await agent(stack)
  const customer = await visitor(stack)
  const other = await visitor(stack)
  const forged = {
    session_number: 'CHAT-VIP',
    started_at: '2001-01-01T00:00:00Z',
    created_at: '2001-01-01T00:00:00Z',
    agent_joined_at: '2001-01-01T00:00:00Z',
    wait_time_seconds: 7,
    messages_count: 99,
    queue_position: 1,
    rating: 5,
    agent_id: other.id,
  }
  for (const [column, value] of Object.entries({ ...forged, customer_id: other.id })) {
    // refused or overruled: both will do
    const { data: session } = await customer.client
      .from('chat_sessions')
      .insert({ customer_name: 'Guest', customer_email: 'guest@example.com', [column]: value })
      .select()
      .maybeSingle()
    if (!session) continue
    const row = await stored(stack, session.id)
    assert.notDeepEqual(row[column] instanceof Date ? row[column].toISOString() : row[column], value, column)
    assert.equal(row.customer_id, customer.id)
    assert.ok([support.id, null].includes(row.agent_id))
    assert.ok(row.started_at > new Date('2020-01-01'), column)
  }
  const strange = await sql(stack, 'select id from public.chat_sessions where customer_id = $1', [other.id])
  assert.deepEqual(strange, [])
})

test('without a user there is no chat', async () => {
  const visitor = anonymous(stack)
  await assert.rejects(visitor.portal.startChatSession(), (error) => ['42501', '23502'].includes(error.cause.code))
})

test("a customer's own claim of an agent changes nothing", async () => {
  const customer = await visitor(stack)
  const chosen = await agent(stack, { status: 'offline' })
  const { id } = await customer.portal.startChatSession()
  await customer.portal.assign(id, chosen.id)
  const row = await stored(stack, id)
  assert.equal(row.agent_id, null)
  assert.equal(row.status, 'waiting')
  assert.deepEqual(must(await customer.client.from('support_agents').select('user_id')), [], 'agents are not listed')
})
