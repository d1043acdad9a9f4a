// Ending a chat: metrics, the rating, and who is told.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, conversation, emptyDesk, stored, visitor } from './portal.mjs'
import { start, until } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

const seconds = (from, to) => Math.floor((to - from) / 1000)

test('the end has its metrics and the rating', async () => {
  const { support, customer, session } = await conversation(stack)
  await support.portal.sendMessage({ session_id: session.id, message: 'hi', sender_type: 'agent' })
  await customer.portal.endSession(session.id, 5, 'quick and kind')
  const row = await stored(stack, session.id)
  assert.equal(row.status, 'ended')
  assert.equal(row.rating, 5)
  assert.equal(row.feedback_comment, 'quick and kind')
  assert.ok(row.feedback_submitted_at)
  assert.equal(row.chat_duration_seconds, seconds(row.started_at, row.ended_at))
  assert.equal(row.wait_time_seconds, seconds(row.started_at, row.agent_joined_at))
  assert.equal(row.queue_position, null)
})

test('times and durations do not come from a browser whose clock is wrong', async () => {
  const { support, customer, session } = await conversation(stack)
  customer.portal.clock = () => Date.parse('2001-01-01T00:00:00Z')
  support.portal.clock = () => Date.parse('2099-01-01T00:00:00Z')
  await support.portal.sendMessage({ session_id: session.id, message: 'hi', sender_type: 'agent' })
  await customer.portal.endSession(session.id, 4, 'fine')
  const row = await stored(stack, session.id)
  for (const time of ['agent_joined_at', 'ended_at', 'feedback_submitted_at']) {
    assert.ok(row.started_at <= row[time] && row[time] <= new Date(), `${time} ${row[time]}`)
  }
  assert.equal(row.chat_duration_seconds, seconds(row.started_at, row.ended_at))
  assert.equal(row.wait_time_seconds, seconds(row.started_at, row.agent_joined_at))
})

test('ending twice is no error and changes nothing', async () => {
  const { support, customer, session } = await conversation(stack)
  await support.portal.sendMessage({ session_id: session.id, message: 'hi', sender_type: 'agent' })
  await customer.portal.endSession(session.id)
  const once = await stored(stack, session.id)
  await customer.portal.endSession(session.id)
  await support.portal.endSession(session.id)
  const twice = await stored(stack, session.id)
  for (const column of ['status', 'ended_at', 'chat_duration_seconds', 'wait_time_seconds', 'agent_id', 'rating']) {
    assert.deepEqual(twice[column], once[column], column)
  }
})

test('a chat may be rated after its end, by its customer', async () => {
  const { support, customer, session } = await conversation(stack)
  await support.portal.sendMessage({ session_id: session.id, message: 'hi', sender_type: 'agent' })
  await support.portal.endSession(session.id, 5, 'I was great')
  assert.equal((await stored(stack, session.id)).rating, null, 'agents do not rate themselves')
  await customer.portal.endSession(session.id, 2, 'slow')
  const row = await stored(stack, session.id)
  assert.equal(row.rating, 2)
  assert.equal(row.feedback_comment, 'slow')
})

test('a rating outside 1 to 5 is refused or ignored', async () => {
  const { customer, session } = await conversation(stack)
  await customer.portal.endSession(session.id, 6, 'too good').catch(() => {})
  await customer.portal.endSession(session.id, -1, 'too bad').catch(() => {})
  assert.equal((await stored(stack, session.id)).rating, null)
  await customer.portal.endSession(session.id)
  assert.notEqual((await stored(stack, session.id)).status, 'active')
})

test('when the agent ends, the customer is told in the chat', async () => {
  const { support, customer, session } = await conversation(stack)
  const heard = []
  await customer.portal.subscribeToMessages(session.id, (message) => heard.push(message))
  await support.portal.sendMessage({ session_id: session.id, message: 'bye', sender_type: 'agent' })
  await until(() => heard.some((each) => each.sender_type === 'agent'), 'the farewell')
  const before = heard.length
  await support.portal.endSession(session.id)
  const told = await until(
    () => heard.slice(before).find((each) => each.sender_type === 'system'),
    'a word of the system',
  )
  assert.equal(told.message_type, 'system')
  assert.equal(told.sender_id, null)
  assert.equal((await stored(stack, session.id)).status, 'ended')
})

test('an ended chat frees its seat', async () => {
  await agent(stack, { seats: 1 })
  const first = await visitor(stack)
  const second = await visitor(stack)
  const { id } = await first.portal.startChatSession()
  await first.portal.endSession(id)
  const session = await second.portal.startChatSession()
  assert.equal(session.status, 'active')
  assert.ok(session.agent_id)
})

test('the end is in the history: session, messages and rating', async () => {
  const { support, customer, session } = await conversation(stack)
  await customer.portal.sendMessage({ session_id: session.id, message: 'hello', sender_type: 'customer' })
  await support.portal.sendMessage({ session_id: session.id, message: 'hi', sender_type: 'agent' })
  await customer.portal.endSession(session.id, 3)
  for (const { portal } of [customer, support]) {
    const read = await portal.getSession(session.id)
    assert.equal(read.status, 'ended')
    assert.equal(read.rating, 3)
    const texts = (await portal.getMessages(session.id)).map(({ message }) => message)
    assert.ok(texts.includes('hello') && texts.includes('hi'))
  }
})
