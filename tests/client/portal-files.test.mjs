// Files: up by the participants, down by who has the link.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { anonymous, conversation, emptyDesk, visitor } from './portal.mjs'
import { sql, start, until } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

const picture = () =>
  new File([Uint8Array.from({ length: 256 }, (_, byte) => byte)], 'screenshot.png', { type: 'image/png' })
const note = () => new File(['what I tried'], 'note.txt', { type: 'text/plain' })

test('a file goes up and comes down through its public address, byte for byte', async () => {
  const { support, customer, session } = await conversation(stack)
  for (const { portal } of [customer, support]) {
    const url = await portal.uploadFile(session.id, picture())
    const answer = await fetch(url)
    assert.equal(answer.status, 200, await answer.clone().text())
    assert.equal(answer.headers.get('content-type'), 'image/png')
    assert.deepEqual(new Uint8Array(await answer.arrayBuffer()), new Uint8Array(await picture().arrayBuffer()))
  }
})

test('a message that is the address of a file carries what it is', async () => {
  const { support, customer, session } = await conversation(stack)
  const heard = []
  await support.portal.subscribeToMessages(session.id, (message) => heard.push(message))
  for (const [file, type] of [
    [picture(), 'image'],
    [note(), 'file'],
  ]) {
    const url = await customer.portal.uploadFile(session.id, file)
    const sent = await customer.portal.sendMessage({ session_id: session.id, message: url, sender_type: 'customer' })
    assert.equal(sent.message_type, type)
    assert.equal(sent.file_url, url)
    assert.equal(sent.file_type, file.type)
    assert.equal(Number(sent.file_size), file.size)
    assert.ok(sent.file_name.endsWith(file.name))
    const told = await until(() => heard.find(({ id }) => id === sent.id), 'the message')
    assert.equal(told.file_url, url)
  }
})

test('nobody else puts files into a chat, lists them, or takes them away', async () => {
  const { customer, session } = await conversation(stack)
  const url = await customer.portal.uploadFile(session.id, note())
  const name = url.slice(url.indexOf(session.id))
  const stranger = await visitor(stack)
  for (const { client, portal } of [stranger, anonymous(stack)]) {
    await assert.rejects(portal.uploadFile(session.id, note()))
    const bucket = client.storage.from('chat-attachments')
    assert.deepEqual((await bucket.list(session.id)).data ?? [], [])
    assert.deepEqual((await bucket.list()).data ?? [], [])
    await bucket.remove([name])
    await bucket.update(name, new File(['forged'], 'note.txt', { type: 'text/plain' }))
    await bucket.move(name, `${session.id}/elsewhere.txt`)
  }
  const answer = await fetch(url)
  assert.equal(answer.status, 200)
  assert.equal(await answer.text(), 'what I tried')
})

test('a chat that does not exist has no folder', async () => {
  const customer = await visitor(stack)
  for (const folder of ['00000000-0000-4000-8000-000000000000', 'no-uuid', customer.id]) {
    await assert.rejects(customer.portal.uploadFile(folder, note()), folder)
  }
  const rows = await sql(stack, 'select name from storage.objects where owner_id = $1', [customer.id])
  assert.deepEqual(rows, [])
})
