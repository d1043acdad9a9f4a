// Joining a channel in all its forms, as clients of every age do it, and what a refusal says.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { client, sql, start, token, until } from './support.mjs'
import { wire } from './wire.mjs'

let stack
before(async () => {
  stack = await start()
  await sql(
    stack,
    `drop table if exists public.rt_joins;
     create table public.rt_joins (id int primary key, note text);
     grant select on public.rt_joins to anon, authenticated;
     alter publication supabase_realtime add table public.rt_joins;`,
  )
})
after(async () => {
  await sql(stack, 'drop table public.rt_joins')
  await stack.stop()
})

let last = 0
const insert = async (note) => {
  await sql(stack, 'insert into public.rt_joins values ($1, $2)', [++last, note])
  return last
}
const wanted = (more) => ({ event: '*', schema: 'public', table: 'rt_joins', ...more })

/** Waits until nobody is subscribed with this value in his filter. */
const unsubscribed = (value) =>
  until(async () => {
    const rows = await sql(stack, "select from realtime.subscription where filters::text like '%' || $1 || '%'", [value])
    return rows.length === 0
  }, `the end of the subscriptions of ${value}`)

for (const vsn of ['1.0.0', '2.0.0']) {
  describe(`protocol ${vsn}`, () => {
    test('a join without config says in its topic what it wants', async () => {
      const old = await wire(stack, { vsn })
      const note = `old ${vsn}`
      const topic = `realtime:public:rt_joins:note=eq.${note}`
      const [status, { postgres_changes: shown }] = await old.ask(topic, 'phx_join', {})
      assert.equal(status, 'ok')
      assert.deepEqual(shown.map(({ id, ...rest }) => rest), [{ schema: 'public', table: 'rt_joins', filter: `note=eq.${note}` }])
      assert.deepEqual(await old.system('postgres_changes'), ['ok', 'Subscribed to PostgreSQL'])
      await insert('another')
      const id = await insert(note)
      await sql(stack, 'update public.rt_joins set id = -id where id = $1', [id])
      const change = await old.next((frame) => frame.event === 'UPDATE')
      assert.deepEqual([change.topic, change.ref], [topic, null])
      const { type, schema, table, record, old_record, errors } = change.payload
      assert.deepEqual(
        { type, schema, table, record, old_record, errors },
        { type: 'UPDATE', schema: 'public', table: 'rt_joins', record: { id: -id, note }, old_record: { id }, errors: null },
      )
      assert.deepEqual(old.frames.filter((f) => f.event === 'INSERT').map((f) => f.payload.record.note), [note])
      assert.ok(!old.frames.some((frame) => frame.event === 'postgres_changes'))
      old.end()
    })

    test('messages come in their order, the reply first', async () => {
      const mine = await wire(stack, { vsn })
      const topic = `realtime:order-${randomUUID()}`
      await mine.join(topic, {
        broadcast: { replication_ready: true }, presence: { enabled: true }, postgres_changes: [wanted()],
      })
      await mine.next((frame) => frame.event === 'presence_state')
      const told = mine.frames.map((frame) => frame.payload.message ?? frame.event)
      assert.deepEqual(told, ['phx_reply', 'Subscribed to PostgreSQL', 'Replication connection established', 'presence_state'])
      mine.end()
    })
  })
}

test('what a join says in odd types is taken as far as it makes sense', async () => {
  const mine = await wire(stack)
  for (const payload of [null, 5, 'x', [], { config: 5 }, { config: { broadcast: [], presence: 'x', postgres_changes: {} } }]) {
    const topic = `realtime:odd-${randomUUID()}`
    assert.equal((await mine.ask(topic, 'phx_join', payload))[0], 'ok', JSON.stringify(payload))
  }
  const topic = `realtime:key-${randomUUID()}`
  await mine.join(topic, { presence: { key: 7, enabled: 'TRUE' } })
  await mine.ask(topic, 'presence', { event: 'Track', payload: {} })
  const diff = await mine.next((frame) => frame.event === 'presence_diff' && frame.topic === topic)
  assert.deepEqual(Object.keys(diff.payload.joins), ['7'])
  mine.end()
})

test('a client that cannot say whether it wants presence is told of it', async () => {
  const [one, two] = [await wire(stack, { vsn: '1.0.0' }), await wire(stack, { vsn: '1.0.0' })]
  const topic = `realtime:before-${randomUUID()}`
  await one.join(topic, { presence: { key: 'one' } })
  await one.ask(topic, 'presence', { event: 'track', payload: { n: 1 } })
  await two.join(topic, { presence: { key: '' }, broadcast: { ack: false, self: false }, postgres_changes: [] })
  const { payload } = await two.next((frame) => frame.event === 'presence_state')
  assert.equal(payload.one.metas[0].n, 1)
  one.end()
  two.end()
})

test('the same topic joined again has what it asks for the second time', async () => {
  const mine = await wire(stack)
  const [topic, note] = [`realtime:again-${randomUUID()}`, randomUUID()]
  const changes = [wanted({ filter: `note=eq.${note}` })]
  const first = mine.send(topic, 'phx_join', { config: { postgres_changes: changes, presence: { key: 'one', enabled: true } } })
  await mine.ask(topic, 'presence', { event: 'track', payload: {} }, first)
  const second = mine.send(topic, 'phx_join', { config: { broadcast: { self: true } } })
  assert.deepEqual(await mine.reply(second), ['ok', { postgres_changes: [] }])
  const end = await mine.next((frame) => frame.event === 'phx_close')
  assert.deepEqual([end.joinRef, end.ref, end.payload], [first, first, {}])
  await insert(note)
  mine.send(topic, 'broadcast', { type: 'broadcast', event: 'marker', payload: {} }, second)
  await mine.next((frame) => frame.event === 'broadcast')
  assert.ok(!mine.frames.some((frame) => frame.event === 'postgres_changes'))
  await unsubscribed(note)
  mine.end()
})

describe('the token of a join', () => {
  const user = (claims) => token(stack, { role: 'authenticated', sub: randomUUID(), ...claims })
  /** The role a join acts in, or why it does not. */
  const roles = async (mine, more) => {
    const name = randomUUID()
    const [status, response] = await mine.join(`realtime:${name}`, { postgres_changes: [wanted({ filter: `note=eq.${name}` })] }, more)
    if (status === 'error') return response.reason
    const [{ role }] = await sql(stack, `select claims ->> 'role' as role from realtime.subscription where filters::text like '%' || $1 || '%'`, [name])
    return role
  }

  test('is its own, else the key of the socket', async () => {
    const mine = await wire(stack)
    assert.equal(await roles(mine, {}), 'anon')
    assert.equal(await roles(mine, { access_token: null }), 'anon')
    assert.equal(await roles(mine, { access_token: 5 }), 'anon')
    assert.equal(await roles(mine, { access_token: stack.secretKey }), 'anon', 'a key is no token of a channel')
    assert.equal(await roles(mine, { access_token: user() }), 'authenticated')
    assert.equal(await roles(mine, { user_token: user() }), 'authenticated')
    mine.end()
  })

  test('that does not hold is named', async () => {
    const mine = await wire(stack)
    const now = Math.floor(Date.now() / 1000)
    assert.equal(await roles(mine, { access_token: '' }), 'MalformedJWT: The token provided is not a valid JWT')
    assert.match(await roles(mine, { access_token: user({ exp: now - 5 }) }), /^InvalidJWTToken: Token has expired \d+ seconds ago$/)
    assert.equal(await roles(mine, { access_token: user({ role: undefined }) }), 'InvalidJWTToken: Fields `role` and `exp` are required in JWT')
    assert.equal(await roles(mine, { access_token: `${user().slice(0, -4)}AAAA` }), 'JwtSignatureError: Failed to validate JWT signature')
    mine.end()
  })
})

describe('a join that wants its changes or nothing', () => {
  const options = { postgres_changes_options: { wait: true } }

  test('is answered when they flow', async () => {
    const made = client(stack)
    const seen = []
    const channel = made.channel(`wait-${randomUUID()}`, { config: options })
    channel.on('postgres_changes', wanted(), (change) => seen.push(change.new.id))
    await new Promise((resolve, reject) =>
      channel.subscribe((status, error) => (status === 'SUBSCRIBED' ? resolve() : reject(error ?? new Error(status)))),
    )
    const id = await insert('at once')
    await until(() => seen.includes(id), 'the change')
  })

  test('is refused where one of them cannot be had, with the reason', async () => {
    const made = client(stack)
    const channel = made.channel(`wait-${randomUUID()}`, { config: options })
    const note = randomUUID()
    channel.on('postgres_changes', wanted({ filter: `note=eq.${note}` }), () => {})
    channel.on('postgres_changes', wanted({ filter: 'nothing=eq.x' }), () => {})
    const [status, error] = await new Promise((resolve) => channel.subscribe((...said) => resolve(said)))
    assert.equal(status, 'CHANNEL_ERROR')
    assert.match(error.message, /^RealtimeDisabledForConfiguration: Unable to subscribe .* invalid column for filter nothing$/)
    await made.removeAllChannels()
    await unsubscribed(note)
  })
})

test('columns and filters are those of one table', async () => {
  const mine = await wire(stack)
  const told = async (change) => {
    const topic = `realtime:wild-${randomUUID()}`
    await mine.join(topic, { postgres_changes: [{ event: '*', schema: 'public', ...change }] })
    const said = await mine.next((frame) => frame.topic === topic && frame.event === 'system', `what is said of ${topic}`)
    return said.payload.message
  }
  assert.equal(
    await told({ table: '*', select: ['id'] }),
    'Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.',
  )
  assert.match(await told({ table: '*', filter: 'id=eq.1' }), /^Filters are not supported for wildcard/)
  assert.match(await told({ filter: 'id=eq.1' }), /^No subscription params provided\..*%{"event" => "\*", "filter" => "id=eq.1"/)
  assert.equal(
    await told({ table: 'rt_joins', select: 'id' }),
    'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]',
  )
  assert.equal(await told({ table: 'rt_joins', select: [5, null] }), 'Subscribed to PostgreSQL')
  mine.end()
})

test('a join without a key is answered at the handshake, where a proxy can see it', async () => {
  const refused = await wire(stack, { query: 'vsn=2.0.0' }).catch((refusal) => refusal)
  assert.deepEqual([refused.status, refused.body], [401, JSON.stringify({ error: 'API key is missing' })])
  const header = await wire(stack, { query: 'vsn=2.0.0', headers: { 'x-api-key': stack.anonKey } })
  assert.equal((await header.join('realtime:key'))[0], 'ok')
  header.end()
})
