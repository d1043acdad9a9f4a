// Several gateways on one database: broadcasts and presence reach the clients of all, and what one leaves behind that
// is killed is taken care of by the others.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { createClient } from '@supabase/supabase-js'
import pg from 'pg'
import ws from 'ws'

import { SOON, changes, databaseProxy, gateway, letGo, proxy, sql, start, subscribed, token, until } from './support.mjs'

/** How long a client may need to find its way back: it waits longer each time. */
const BACK = 40_000
/** For how long the slot of a gateway that is gone is kept here, in seconds. */
const WINDOW = 15

let stack, other

before(async () => {
  const args = ['--resume-window', String(WINDOW)]
  stack = await start({ args })
  await sql(
    stack,
    `create table public.posts (id bigint generated always as identity primary key, room text not null);
     grant select on public.posts to anon, authenticated;
     alter publication supabase_realtime add table public.posts;
     create policy read on realtime.messages for select to authenticated
       using (realtime.topic() like 'secret-%' and auth.jwt() ->> 'may' in ('read', 'write'));
     create policy write on realtime.messages for insert to authenticated
       with check (realtime.topic() like 'secret-%' and auth.jwt() ->> 'may' = 'write');`,
  )
  other = await gateway(stack, { args })
  await together(2)
})
after(async () => {
  await other?.stop()
  await stack?.stop()
})

const living = async () =>
  (await sql(stack, `select objid from pg_locks where locktype = 'advisory' and classid = $1`, [0x53574244])).length

/** Resolves once so many gateways live and hear each other: somebody present at each is seen at each. */
async function together(count) {
  await until(async () => (await living()) === count, `${count} living gateways`, SOON)
  const topic = `together-${randomUUID()}`
  const seen = await Promise.all([stack, other].map((at, key) => present(at, topic, String(key))))
  await until(() => seen.every((each) => each.keys().length === 2), 'gateways to hear each other', SOON)
  await Promise.all(seen.map((each) => each.client.removeAllChannels()))
}

/** A client of a gateway with its own claims. */
async function at(gateway, claims = {}, { vsn } = {}) {
  const current = token(stack, { role: 'authenticated', sub: randomUUID(), ...claims })
  const made = createClient(gateway.url, stack.anonKey, {
    accessToken: async () => current,
    realtime: { transport: ws, ...(vsn && { vsn }) },
  })
  gateway.clients.push(made)
  await made.realtime.setAuth()
  return made
}

/** A channel of a gateway that notes what is broadcast on it. */
async function hearing(gateway, topic, { config = {}, claims, vsn } = {}) {
  const client = await at(gateway, claims, { vsn })
  const heard = []
  const channel = client.channel(topic, { config }).on('broadcast', { event: '*' }, (m) => heard.push(m))
  await subscribed(channel)
  return { client, channel, heard, say: (event, payload) => channel.send({ type: 'broadcast', event, payload }) }
}

/** A channel of a gateway that is present under a key. */
async function present(gateway, topic, key, mood = {}, { config = {}, claims } = {}) {
  const client = await at(gateway, claims)
  const channel = client.channel(topic, { config: { ...config, presence: { key } } })
  const diffs = []
  channel.on('presence', { event: 'sync' }, () => {})
  channel.on('presence', { event: 'join' }, ({ key, newPresences }) => diffs.push(['join', key, newPresences]))
  channel.on('presence', { event: 'leave' }, ({ key, leftPresences }) => diffs.push(['leave', key, leftPresences]))
  await subscribed(channel)
  assert.equal(await channel.track(mood), 'ok')
  return { client, channel, diffs, state: () => channel.presenceState(), keys: () => Object.keys(channel.presenceState()) }
}

const slots = async () =>
  (await sql(stack, `select slot_name from pg_replication_slots where slot_name like 'switchboard_realtime_%'`)).map(
    (row) => row.slot_name,
  )

describe('broadcasts', () => {
  for (const [from, to] of [['1.0.0', '2.0.0'], ['2.0.0', '1.0.0'], ['2.0.0', '2.0.0']]) {
    test(`reach clients of another gateway, ${from} to ${to}`, async () => {
      const topic = `room-${randomUUID()}`
      const sender = await hearing(stack, topic, { vsn: from, config: { broadcast: { ack: true } } })
      const near = await hearing(stack, topic, { vsn: to })
      const far = await hearing(other, topic, { vsn: to })
      for (let n = 0; n < 50; n += 1) sender.say('count', { n, t: 'é' })
      assert.equal(await sender.say('last', {}), 'ok')
      await until(() => [near, far].every(({ heard }) => heard.at(-1)?.event === 'last'), 'the last')
      assert.deepEqual(far.heard.map((m) => [m.event, m.payload]), near.heard.map((m) => [m.event, m.payload]))
      assert.deepEqual(far.heard.slice(0, 50).map((m) => m.payload), Array.from({ length: 50 }, (_, n) => ({ n, t: 'é' })))
      assert.deepEqual(sender.heard, [], 'it did not ask for its own')
    })
  }

  test('come to their sender once if it wants them', async () => {
    const topic = `room-${randomUUID()}`
    const sender = await hearing(stack, topic, { config: { broadcast: { self: true } } })
    const far = await hearing(other, topic)
    sender.say('first', {})
    sender.say('last', {})
    await until(() => far.heard.length === 2, 'both there')
    // what comes back over the bus has come back before this does
    await far.say('answer', {})
    await until(() => sender.heard.at(-1)?.event === 'answer', 'the answer')
    assert.deepEqual(sender.heard.map((m) => m.event), ['first', 'last', 'answer'])
  })

  test('carry bytes', async () => {
    const topic = `room-${randomUUID()}`
    const [sender, far] = [await hearing(stack, topic), await hearing(other, topic)]
    const bytes = Uint8Array.from({ length: 70_000 }, (_, at) => at % 256)
    sender.say('bytes', bytes.buffer)
    await until(() => far.heard.length === 1, 'the bytes')
    assert.deepEqual(new Uint8Array(far.heard[0].payload), bytes)
  })

  test('on a private channel go from who may write to who may read', async () => {
    const topic = `secret-${randomUUID()}`
    const config = { private: true, broadcast: { ack: true } }
    const writer = await hearing(stack, topic, { config, claims: { may: 'write' } })
    const reader = await hearing(other, topic, { config, claims: { may: 'read' } })
    const open = await hearing(other, topic)
    await assert.rejects(hearing(other, topic, { config, claims: { may: 'nothing' } }))
    assert.equal(await reader.say('forged', {}), 'error')
    assert.equal(await writer.say('told', { to: 'readers' }), 'ok')
    await until(() => reader.heard.length > 0, 'the message')
    assert.deepEqual(reader.heard.map((m) => m.event), ['told'])
    assert.deepEqual([open.heard, writer.heard], [[], []])
  })

  test('over HTTP, one and many', async () => {
    const topic = `room-${randomUUID()}`
    const far = await hearing(other, topic)
    const post = (path, body, type = 'application/json') =>
      fetch(`${stack.url}/realtime/v1/api/broadcast${path}`, {
        method: 'POST',
        headers: { apikey: stack.anonKey, 'content-type': type },
        body,
      })
    const messages = [1, 2, 3].map((n) => ({ topic, event: 'many', payload: { n } }))
    assert.equal((await post('', JSON.stringify({ messages }))).status, 202)
    assert.equal((await post(`/${topic}/events/one`, '[1]')).status, 202)
    assert.equal((await post(`/${topic}/events/bytes`, Buffer.from([0, 255]), 'application/octet-stream')).status, 202)
    await until(() => far.heard.length === 5, 'all five')
    assert.deepEqual(far.heard.map((m) => m.event), ['many', 'many', 'many', 'one', 'bytes'])
    assert.deepEqual(far.heard[3].payload, [1])
    assert.deepEqual([...new Uint8Array(far.heard[4].payload)], [0, 255])
  })
})

test('nobody else can speak for a gateway, and DDL is told by whoever may do it', async () => {
  const admin = new pg.Client(stack.adminUrl)
  await admin.connect()
  try {
    await admin.query('create role maker; create schema made authorization maker; set role maker')
    const forge = admin.query(`select pg_logical_emit_message(true, 'switchboard.realtime', 'x')`)
    await assert.rejects(forge, { code: '42501' })
    await admin.query('create table made.thing (id int)')
    await admin.query('drop table made.thing')
  } finally {
    await admin.query('reset role; drop schema made; drop role maker')
    await admin.end()
  }
})

describe('presence', () => {
  test('of all gateways is one state, with each change told once', async () => {
    const topic = `presence-${randomUUID()}`
    const a = await present(stack, topic, 'a', { mood: 1 })
    const b = await present(other, topic, 'b', { mood: 2 })
    await until(() => a.state().b && b.state().a, 'both to know each other')
    const before = b.state().a[0].presence_ref
    await a.channel.track({ mood: 3 })
    await until(() => b.state().a?.[0].mood === 3, 'the change')
    assert.equal(b.state().a.length, 1)
    assert.notEqual(b.state().a[0].presence_ref, before)
    const again = await present(other, topic, 'a', { mood: 4 })
    await until(() => a.state().a?.length === 2 && b.state().a?.length === 2, 'two of one key')
    await again.channel.untrack()
    await until(() => a.state().a?.length === 1 && b.state().a?.length === 1, 'one of them again')
    await b.client.removeChannel(b.channel)
    await until(() => !a.state().b, 'b to be gone')
    const of = (who, key) => a.diffs.filter(([, of]) => of === key).map(([what]) => what)
    assert.deepEqual(of(a, 'b'), ['join', 'leave'])
  })

  test('on a private channel is read by who may, over gateways too', async () => {
    const topic = `secret-${randomUUID()}`
    const config = { private: true }
    const a = await present(stack, topic, 'a', {}, { config, claims: { may: 'write' } })
    const b = await present(other, topic, 'b', {}, { config, claims: { may: 'write' } })
    const open = await present(other, topic, 'c')
    await until(() => a.state().b && b.state().a, 'both to know each other')
    assert.deepEqual(open.keys(), ['c'])
  })
})

describe('a gateway', () => {
  test('that is stopped hands its clients to another', async () => {
    const topic = `stopped-${randomUUID()}`
    const stopped = await gateway(stack, { args: ['--resume-window', String(WINDOW)] })
    const way = await proxy(stopped.url)
    const a = await present(stack, topic, 'a')
    await present(stopped, topic, 'b')
    const watcher = await changes(await at({ ...stopped, url: way.url }), { table: 'posts' })
    const systems = []
    watcher.channel.on('system', {}, (message) => systems.push(message))
    await until(() => a.state().b, 'b')
    const write = async (room) => {
      const [{ id }] = await sql(stack, 'insert into public.posts (room) values ($1) returning id', [room])
      return Number(id)
    }
    const written = [await write(topic)]
    await watcher.next((change) => change.new.id === written[0])
    await Promise.all([stopped.end(), until(() => !a.state().b, 'b to be gone')])
    written.push(await write(topic))
    way.lead(other.url)
    await until(() => watcher.list.length === 2, 'the post written meanwhile', BACK)
    written.push(await write(topic))
    await until(() => watcher.list.length === 3, 'a new post')
    assert.deepEqual(watcher.list.map((change) => change.new.id), written)
    assert.deepEqual(systems.filter((message) => message.status === 'error'), [])
    await stopped.stop()
  })

  test('that comes later knows who is present, and is known', async () => {
    const topic = `late-${randomUUID()}`
    const a = await present(stack, topic, 'a', { mood: 1 })
    const third = await gateway(stack)
    try {
      const c = await present(third, topic, 'c')
      await until(() => c.state().a?.[0].mood === 1 && a.state().c, 'both to know each other')
    } finally {
      await third.stop()
    }
    await until(() => !a.state().c, 'c to be gone with its gateway')
  })

  test('of the same name as another takes another name', async () => {
    const named = ['--node', `twin-${randomUUID()}`]
    const before = await slots()
    const twins = await Promise.all([gateway(stack, { args: named }), gateway(stack, { args: named })])
    try {
      const own = (await slots()).filter((slot) => !before.includes(slot))
      assert.equal(new Set(own).size, 2, `two slots in ${own}`)
      const listeners = await Promise.all(twins.map(async (twin) => changes(await at(twin), { table: 'posts' })))
      const [{ id }] = await sql(stack, `insert into public.posts (room) values ('twins') returning id`)
      for (const each of listeners) await each.next((change) => change.new.id === Number(id))
    } finally {
      await Promise.all(twins.map((twin) => twin.stop()))
    }
  })

  test('that is killed leaves nobody present and no slot, and its clients go on at another', async () => {
    const topic = `killed-${randomUUID()}`
    const before = await slots()
    const doomed = await gateway(stack, { args: ['--resume-window', String(WINDOW)] })
    const [slot] = (await slots()).filter((each) => !before.includes(each))
    const a = await present(stack, topic, 'a')
    const way = await proxy(doomed.url)
    const balanced = { ...doomed, url: way.url }
    await present(doomed, topic, 'b')
    const [watcher, idle] = [await at(balanced), await at(balanced)]
    const ids = []
    const systems = []
    const room = randomUUID()
    for (const [client, wanted] of [[watcher, room], [idle, `${room}-idle`]]) {
      const filter = `room=eq.${wanted}`
      const channel = client
        .channel(`posts-${wanted}`)
        .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'posts', filter }, (c) => ids.push(Number(c.new.id)))
        .on('system', {}, (message) => systems.push(message))
      await subscribed(channel)
    }
    const write = async (room) => {
      const [{ id }] = await sql(stack, 'insert into public.posts (room) values ($1) returning id', [room])
      return Number(id)
    }
    const written = [await write(room), await write(room)]
    await until(() => ids.length === 2, 'the first posts')
    await until(() => a.state().b, 'b')
    // what a killed gateway noted last
    await until(async () => {
      const [row] = await sql(stack, `select count(*) from realtime.resumable where lost_at is null and commit > '0/0'`)
      return Number(row.count) > 0
    }, 'a receipt')
    // the idle one has had nothing, and there is nothing it missed, though the other gateway keeps nothing of then
    await letGo(stack)
    await doomed.kill()
    written.push(await write(room), await write(`${room}-idle`))
    // the address leads to another gateway now, as behind a load balancer
    way.lead(other.url)
    await until(() => !a.state().b, 'b to be gone')
    await until(() => written.every((id) => ids.includes(id)), `the posts written meanwhile among ${ids}`, BACK)
    written.push(await write(room))
    await until(() => ids.includes(written.at(-1)), 'a new post')
    assert.deepEqual(ids.toSorted((x, y) => x - y).filter((id, at, all) => id !== all[at - 1]), written)
    assert.deepEqual(systems.filter((message) => message.status === 'error'), [], 'nothing was missed')
    await until(async () => !(await slots()).includes(slot), 'its slot to go', (WINDOW + 10) * 1000)
    const name = slot.slice(-8)
    const [left] = await sql(
      stack,
      `select
         (select count(*) from realtime.subscription where left(subscription_id::text, 8) = $1) as subscriptions,
         (select count(*) from realtime.resumable where left(id::text, 8) = $1 and lost_at is null) as resumable,
         (select count(*) from realtime.gateway where name = $1) as gateways`,
      [name],
    )
    assert.deepEqual(left, { subscriptions: '0', resumable: '0', gateways: '0' })
    await doomed.stop()
  })
})

describe('a gateway whose database is away', () => {
  let way, cut
  before(async () => {
    way = await databaseProxy(stack)
    cut = await gateway(stack, { database: way.url })
  })
  after(async () => {
    await cut?.stop()
    await way?.end()
  })

  test('goes on among its own clients, says so, and makes up for it', async () => {
    const topic = `away-${randomUUID()}`
    const config = { broadcast: { ack: true } }
    const [sender, near] = [await hearing(cut, topic, { config }), await hearing(cut, topic)]
    const far = await hearing(stack, topic)
    const a = await present(stack, topic, 'a')
    const b = await at(cut)
    let mood = 1
    const channel = b.channel(topic, { config: { presence: { key: 'b' } } }).on('presence', { event: 'sync' }, () => {})
    // as applications do: whoever is taken for dead joins again, and says again who it is
    channel.subscribe((status) => status === 'SUBSCRIBED' && channel.track({ mood }))
    await until(() => a.state().b?.[0].mood === 1, 'b')
    assert.equal(await sender.say('before', {}), 'ok')
    await until(() => far.heard.length === 1 && near.heard.length === 1, 'what was said before')

    way.close()
    const answers = []
    let n = 0
    await until(async () => {
      answers.push(await sender.say('away', { n: (n += 1) }))
      return answers.at(-1) === 'error'
    }, `an answer that it does not reach everybody among ${answers}`)
    await until(() => near.heard.length === n + 1, `all ${n} at clients of its own`)
    const post = () =>
      fetch(`${cut.url}/realtime/v1/api/broadcast/${topic}/events/http`, {
        method: 'POST',
        headers: { apikey: stack.anonKey, 'content-type': 'application/json' },
        body: '{}',
      })
    assert.equal((await post()).ok, false)
    mood = 2
    await channel.track({ mood })

    way.open()
    await until(() => a.state().b?.at(-1).mood === 2, `the change of b, not ${JSON.stringify(a.state())}`, BACK)
    await until(async () => (await sender.say('after', {})) === 'ok', 'an answer that it reaches everybody', BACK)
    await until(() => far.heard.at(-1).event === 'after', 'what was said after', BACK)
    assert.equal((await post()).status, 202)
    assert.equal(a.state().b.length, 1)
  })
})

test('under load of both, everything arrives once and in order', async () => {
  const topic = `load-${randomUUID()}`
  const [near, far] = await Promise.all([stack, other].map((at) => Promise.all([1, 2, 3].map(() => hearing(at, topic)))))
  const all = [...near, ...far]
  const COUNT = 300
  all.forEach(({ say }, sender) => {
    for (let n = 0; n < COUNT; n += 1) say('load', { sender, n })
  })
  await until(() => all.every(({ heard }) => heard.length >= COUNT * (all.length - 1)), 'all messages', BACK)
  all.forEach(({ heard }, listener) => {
    for (let sender = 0; sender < all.length; sender += 1) {
      const numbers = heard.filter((m) => m.payload.sender === sender).map((m) => m.payload.n)
      const wanted = sender === listener ? [] : Array.from({ length: COUNT }, (_, n) => n)
      assert.deepEqual(numbers, wanted, `${sender} at ${listener}`)
    }
  })
})
