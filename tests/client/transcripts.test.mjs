// Transcripts, canned replies and business hours, as a portal asks for them through supabase-js.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { anonymous, conversation, emptyDesk, visitor } from './portal.mjs'
import { changes, must, sql, start, until, user } from './support.mjs'

let stack
before(async () => {
  stack = await start()
})
after(() => stack.stop())

const lead = () => user(stack, { role: 'support_manager' })

describe('transcripts', () => {
  test('a customer takes his chat along in three forms, and a stranger does not', async () => {
    const { support, customer, session } = await conversation(stack)
    await customer.portal.sendMessage({ session_id: session.id, message: 'Where is <it>?', sender_type: 'customer' })
    await support.portal.sendMessage({ session_id: session.id, message: 'Here: https://example.com/a', sender_type: 'agent' })

    const asked = { session_id: session.id, time_zone: 'Europe/Berlin' }
    const document = must(await customer.client.rpc('chat_transcript', { session_id: session.id }))
    assert.equal(document.version, 1)
    assert.equal(document.session.number, session.session_number)
    const texts = document.messages.filter((each) => each.sender_type !== 'system').map((each) => each.text)
    assert.deepEqual(texts, ['Where is <it>?', 'Here: https://example.com/a'])
    assert.ok(!JSON.stringify(document).includes(support.email), 'an agent keeps his address')
    const text = must(await customer.client.rpc('chat_transcript', { ...asked, format: 'text' }))
    assert.match(text, /^Chat CHAT-\d+\n.*Agent: Here: https:\/\/example\.com\/a\n/s)
    const html = must(await support.client.rpc('chat_transcript', { ...asked, format: 'html' }))
    assert.match(html, /Where is &lt;it&gt;\?/)

    const stranger = await visitor(stack)
    for (const session_id of [session.id, randomUUID()]) {
      const { error, status } = await stranger.client.rpc('chat_transcript', { session_id })
      assert.deepEqual([status, error.code], [403, '42501'])
      assert.equal(error.message, 'there is no such session, or its transcript is not yours to read')
    }
  })

  test('a page and a text are had as they are', async () => {
    const { customer, session } = await conversation(stack)
    const get = async (name, accept) => {
      const answer = await fetch(`${stack.url}/rest/v1/rpc/${name}?session_id=${session.id}&time_zone=Asia/Tokyo`, {
        headers: { apikey: stack.anonKey, Authorization: `Bearer ${customer.token}`, Accept: accept },
      })
      return { type: answer.headers.get('content-type').split(';')[0], status: answer.status, body: await answer.text() }
    }
    // what a browser accepts
    const page = await get('chat_transcript_html', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8')
    assert.deepEqual([page.status, page.type], [200, 'text/html'])
    assert.match(page.body, /^<!doctype html>\n.*<\/html>\n$/s)
    const text = await get('chat_transcript_text', 'text/plain')
    assert.deepEqual([text.status, text.type], [200, 'text/plain'])
    assert.match(text.body, /^Time zone: Asia\/Tokyo$/m)
  })

  test('the worker keeps one when the chat is over, and brings it up to date', async () => {
    const { support, customer, session } = await conversation(stack)
    const kept = async (person) =>
      must(await person.client.from('chat_transcripts').select().eq('session_id', session.id)).at(0)
    await customer.portal.sendMessage({ session_id: session.id, message: 'Bye', sender_type: 'customer' })
    must(await customer.client.from('chat_sessions').update({ status: 'ended' }).eq('id', session.id))
    await until(() => kept(customer), 'the transcript')
    must(await customer.client.from('chat_sessions').update({ rating: 5 }).eq('id', session.id))
    const row = await until(async () => {
      const row = await kept(support)
      return row?.document.rating?.stars === 5 && row
    }, 'the rating in it')
    assert.equal(row.messages_count, row.document.messages.length)
    assert.equal(await kept(await visitor(stack)), undefined)
  })
})

describe('canned replies', () => {
  test('a lead writes them, and an agent finds and sends them', async () => {
    const { client } = await lead()
    const { support, customer, session } = await conversation(stack)
    const shortcut = `hi-${randomUUID().slice(0, 8)}`
    const written = must(
      await client
        .from('chat_canned_replies')
        .insert({ shortcut, title: 'Greeting', body: 'Hello {{customer_name}}, this is {{agent_name}}.', tags: ['polite'] })
        .select()
        .single(),
    )
    const twice = await client.from('chat_canned_replies').insert({ shortcut, title: 'Again', body: 'x' })
    assert.equal(twice.error.code, '23505')
    assert.match(twice.error.message, /chat_canned_replies_one_per_shortcut/)
    const blank = await client.from('chat_canned_replies').update({ body: ' ' }).eq('id', written.id)
    assert.match(blank.error.message, /chat_canned_replies_body_not_blank/)

    const found = await support.client.from('chat_canned_replies').select('shortcut,title').like('shortcut', `${shortcut.slice(0, 6)}%`)
    assert.deepEqual(must(found), [{ shortcut, title: 'Greeting' }])
    const body = must(await support.client.rpc('chat_canned_reply', { shortcut, session_id: session.id }))
    assert.equal(body, 'Hello Guest User, this is Agent.')
    assert.equal((await customer.client.rpc('chat_canned_reply', { shortcut, session_id: session.id })).error.code, '42501')
    assert.deepEqual(must(await customer.client.from('chat_canned_replies').select()), [])
    await until(
      async () => must(await client.from('chat_canned_replies').select().eq('id', written.id).single()).uses_count === 1,
      'the use to be counted',
      30_000,
    )
    must(await client.from('chat_canned_replies').delete().eq('id', written.id))
  })
})

describe('business hours', () => {
  test('a lead sets them, the start page asks, and who comes all the same is told once', async () => {
    await emptyDesk(stack)
    const { client } = await lead()
    const queue = must(
      await client.from('chat_queues').insert({ name: `Hours ${randomUUID()}`, time_zone: 'Europe/Berlin' }).select().single(),
    )
    const page = anonymous(stack).client
    const asked = async () => must(await page.rpc('chat_queue_open', { queue_id: queue.id }))
    assert.deepEqual(await asked(), { is_open: true, opens_at: null, closes_at: null, notice: null })

    const wrong = await client.from('chat_queues').update({ time_zone: 'Mars/Base' }).eq('id', queue.id)
    assert.equal(wrong.error.code, '23514')
    must(await client.from('chat_queues').update({ out_of_hours_notice: 'Back on Monday.' }).eq('id', queue.id))
    // open for a minute a week, three days from now
    const weekday = ((new Date(Date.now() + 3 * 86_400_000).getUTCDay() + 6) % 7) + 1
    const hours = { queue_id: queue.id, weekday, opens: '12:00', closes: '12:01' }
    must(await client.from('chat_business_hours').insert(hours))
    const empty = await client.from('chat_business_hours').insert({ ...hours, opens: '12:01' })
    assert.match(empty.error.message, /chat_business_hours_not_empty/)
    const closed = await asked()
    assert.deepEqual([closed.is_open, closed.notice, closed.closes_at], [false, 'Back on Monday.', null])
    assert.ok(Date.parse(closed.opens_at) > Date.now())
    must(await client.from('chat_business_hours').update({ closes: '12:02' }).match({ queue_id: queue.id, weekday }))

    const customer = await visitor(stack)
    const session = must(
      await customer.client
        .from('chat_sessions')
        .insert({ customer_id: customer.id, customer_name: 'x', customer_email: 'x', status: 'waiting', queue_id: queue.id })
        .select()
        .single(),
    )
    const heard = await changes(customer.client, { event: 'INSERT', table: 'chat_messages', filter: `session_id=eq.${session.id}` })
    await heard.next((change) => change.new.message === 'Back on Monday.', 'the notice')
    const noted = await sql(stack, `select from chat.events where session_id = $1 and kind = 'out_of_hours'`, [session.id])
    assert.equal(noted.length, 1)

    must(await client.from('chat_holidays').insert({ queue_id: queue.id, day: '2030-12-25', name: 'Christmas' }))
    must(await client.from('chat_holidays').delete().eq('queue_id', queue.id))
    must(await client.from('chat_business_hours').delete().eq('queue_id', queue.id))
    assert.equal((await asked()).is_open, true)
  })
})
