// Sending again: a client that names its messages is heard once, however often it asks.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, beforeEach, test } from 'node:test'

import { conversation, emptyDesk, stored } from './portal.mjs'
import { must, start } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

test('a message sent again is a duplicate, or passed over where the client asks for it', async () => {
  const { customer, session } = await conversation(stack)
  const before = (await stored(stack, session.id)).messages_count
  const message = {
    session_id: session.id,
    sender_id: customer.id,
    sender_type: 'customer',
    message: 'hello',
    client_id: randomUUID(),
  }
  const table = () => customer.portal.supabase.from('chat_messages')

  const first = must(await table().insert(message).select().single())
  assert.equal(first.client_id, message.client_id)

  const again = await table().insert(message).select().single()
  assert.equal(again.status, 409)
  assert.equal(again.error.code, '23505')

  const passed = await table().upsert(message, { onConflict: 'sender_id,client_id', ignoreDuplicates: true }).select()
  assert.equal(passed.error, null)
  assert.deepEqual(passed.data, [])

  const other = { ...message, client_id: randomUUID() }
  const [second] = must(
    await table().upsert(other, { onConflict: 'sender_id,client_id', ignoreDuplicates: true }).select(),
  )
  assert.equal(second.client_id, other.client_id)
  assert.equal((await stored(stack, session.id)).messages_count, before + 2)
})
