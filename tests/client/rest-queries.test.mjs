// REST where a query says more than rows of a table: aggregates, computed relations, rows put in place, estimates,
// plans, bodies that are no JSON objects, and the tokens and settings all of them stand on.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { client, must, sql, start, token, until } from './support.mjs'

let stack, anon

const SCHEMA = `
  create table public.q_teams (id int primary key, name text not null);
  create table public.q_people (
    id int primary key, name text not null, nick text, team_id int references public.q_teams, born date
  );
  create table public.q_calls (
    id int primary key, person_id int not null references public.q_people, minutes int not null, kind text
  );
  create table public.q_tags (
    person_id int references public.q_people, tag text, note text, primary key (person_id, tag)
  );
  create table public.q_routes (
    id int primary key, source int references public.q_teams, goal int references public.q_teams
  );
  insert into public.q_teams values (1, 'sales'), (2, 'support'), (3, 'idle');
  insert into public.q_people values
    (1, 'Ada', 'a', 1, '1990-01-02'), (2, 'Bo', null, 1, '1991-01-02'), (3, 'Cy', null, 2, null), (4, 'Di', 'd', null, null);
  insert into public.q_calls values (1, 1, 5, 'in'), (2, 1, 7, 'out'), (3, 2, 10, 'in'), (4, 3, 1, null);

  create function public.q_mates(public.q_people) returns setof public.q_people language sql stable
    begin atomic select p.* from public.q_people p where p.team_id = $1.team_id and p.id <> $1.id order by p.id; end;
  create function public.q_first_call(public.q_people) returns setof public.q_calls rows 1 language sql stable
    begin atomic select c.* from public.q_calls c where c.person_id = $1.id order by c.id limit 1; end;

  create function public.q_same(a int) returns text language sql immutable return 'int';
  create function public.q_same(a text) returns text language sql immutable return 'text';
  create function public.q_text(text) returns text language sql immutable return upper($1);
  create function public.q_bytes(bytea) returns int language sql immutable return length($1);
  create function public.q_xml(xml) returns text language sql immutable return (xpath('/a/text()', $1))[1]::text;
  create function public.q_json(json) returns int language sql immutable return json_array_length($1);
  create function public.q_echo() returns text language sql immutable return 'nothing';
  create function public.q_echo(text) returns text language sql immutable return $1;
  create function public.q_echo(int) returns text language sql immutable return 'a number';
  create function public.q_maybe() returns text language sql immutable return 'nothing';
  create function public.q_maybe(text default 'x') returns text language sql immutable return $1;
  create function public.q_turn(int) returns int language sql immutable return -$1;
  create function public.q_sum(variadic numbers int[]) returns int language sql immutable
    begin atomic select sum(n)::int from unnest($1) n; end;
  create function public.q_add(a int, b int default 10) returns int language sql immutable return a + b;
  create function public.q_pair(out low int, out high int) language sql immutable begin atomic select 1, 2; end;
  create function public.q_numbers() returns setof int language sql immutable rows 5
    begin atomic select generate_series(1, 5); end;
  create function public.q_setting(name text) returns text language sql stable return current_setting(name, true);
  create function public.q_isolation() returns text language sql stable set default_transaction_isolation = 'repeatable read'
    return current_setting('transaction_isolation');
  create function public.q_slow() returns text language sql stable set statement_timeout = '7s'
    return current_setting('statement_timeout');

  grant select, insert, update, delete on all tables in schema public to anon, authenticated, service_role;
`

before(async () => {
  // the login role gets settings here, so it is never an instance that is shared
  stack = await start({})
  await sql(stack, SCHEMA)
  anon = client(stack)
  await until(async () => (await anon.from('q_routes').select()).data, 'the new schema')
})

after(() => stack.stop())

/** A request as it is written here: status, headers and body as they came. */
async function raw(path, { method = 'GET', headers = {}, body } = {}) {
  const answer = await fetch(`${stack.url}/rest/v1${path}`, {
    method,
    headers: { apikey: stack.anonKey, ...headers },
    body,
  })
  const text = await answer.text()
  return { status: answer.status, header: (name) => answer.headers.get(name), text, json: () => JSON.parse(text) }
}

const json = { 'content-type': 'application/json' }
const rows = async (path, headers) => {
  const answer = await raw(path, { headers })
  assert.equal(answer.status, 200, answer.text)
  return answer.json()
}
const refused = async (path, options) => {
  const answer = await raw(path, options)
  return [answer.status, answer.json().code]
}

/** With these settings of the login role, then without them. */
async function withSettings(settings, holds, body) {
  const reload = `notify pgrst, 'reload config'`
  for (const [name, value] of Object.entries(settings)) {
    await sql(stack, `alter role authenticator set "pgrst.${name}" = '${value}'`)
  }
  await sql(stack, reload)
  try {
    await until(holds, `the settings ${Object.keys(settings)}`)
    await body()
  } finally {
    for (const name of Object.keys(settings)) await sql(stack, `alter role authenticator reset "pgrst.${name}"`)
    await sql(stack, reload)
    await until(async () => !(await holds()), 'the settings as they were')
  }
}

describe('aggregates', () => {
  const counted = async () => (await raw('/q_calls?select=count()')).status === 200
  const enabled = (body) => withSettings({ db_aggregates_enabled: 'true' }, counted, body)

  test('are refused until they are allowed', async () => {
    assert.deepEqual(await refused('/q_calls?select=minutes.sum()'), [400, 'PGRST123'])
  })

  test('of all rows, by group, cast, and under a name', async () => {
    await enabled(async () => {
      assert.deepEqual(await rows('/q_calls?select=count(),minutes.sum(),minutes.max(),low:minutes.min()'), [
        { count: 4, sum: 23, max: 10, low: 1 },
      ])
      assert.deepEqual(await rows('/q_calls?select=person_id,total:minutes.sum()::text&order=person_id'), [
        { person_id: 1, total: '12' },
        { person_id: 2, total: '10' },
        { person_id: 3, total: '1' },
      ])
      assert.deepEqual(await rows('/q_calls?select=kind,n:count()&kind=not.is.null&order=kind'), [
        { kind: 'in', n: 2 },
        { kind: 'out', n: 1 },
      ])
      assert.deepEqual(await rows('/q_calls?select=average:minutes::numeric.avg()::int'), [{ average: 6 }])
    })
  })

  test('inside an embedded relation and over one that is spread', async () => {
    await enabled(async () => {
      assert.deepEqual(await rows('/q_people?select=name,q_calls(minutes.sum())&id=lt.3&order=id'), [
        { name: 'Ada', q_calls: [{ sum: 12 }] },
        { name: 'Bo', q_calls: [{ sum: 10 }] },
      ])
      assert.deepEqual(await rows('/q_calls?select=minutes.sum(),...q_people(name)&order=q_people(name)'), [
        { sum: 12, name: 'Ada' },
        { sum: 10, name: 'Bo' },
        { sum: 1, name: 'Cy' },
      ])
      assert.deepEqual(await rows('/q_calls?select=kind,...q_people(oldest:born.min())&kind=eq.in'), [
        { kind: 'in', oldest: '1990-01-02' },
      ])
      assert.deepEqual(await rows('/q_calls?select=count(),q_people(name)&person_id=eq.1'), [
        { count: 2, q_people: { name: 'Ada' } },
      ])
      assert.deepEqual(await refused('/q_people?select=name,...q_calls(minutes.sum())'), [400, 'PGRST127'])
    })
  })
})

describe('related rows', () => {
  test('are spread from many as arrays', async () => {
    assert.deepEqual(await rows('/q_people?select=name,...q_calls(minutes,kind)&q_calls.order=id&id=in.(1,4)&order=id'), [
      { name: 'Ada', minutes: [5, 7], kind: ['in', 'out'] },
      { name: 'Di', minutes: [], kind: [] },
    ])
    assert.deepEqual(await rows('/q_teams?select=name,...q_people(name_of:name,...q_calls(minutes))&id=eq.2'), [
      { name: 'support', name_of: ['Cy'], minutes: [[1]] },
    ])
    const spread = await rows('/q_people?select=name,...q_calls(*)&id=eq.3')
    assert.deepEqual(spread, [{ name: 'Cy', id: [4], person_id: [3], minutes: [1], kind: [null] }])
  })

  test('may come from a function', async () => {
    assert.deepEqual(await rows('/q_people?select=name,q_mates(name),q_first_call(minutes)&order=id&id=in.(1,3,4)'), [
      { name: 'Ada', q_mates: [{ name: 'Bo' }], q_first_call: { minutes: 5 } },
      { name: 'Cy', q_mates: [], q_first_call: { minutes: 1 } },
      { name: 'Di', q_mates: [], q_first_call: null },
    ])
    const changed = await raw('/q_people?id=eq.2&select=name,q_mates(name)', {
      method: 'PATCH',
      headers: { ...json, prefer: 'return=representation' },
      body: '{"nick":"b"}',
    })
    assert.deepEqual(changed.json(), [{ name: 'Bo', q_mates: [{ name: 'Ada' }] }])
  })

  test('decide which rows come, without being shown', async () => {
    assert.deepEqual(await rows('/q_people?select=name,q_calls!inner()&order=id'), [
      { name: 'Ada' },
      { name: 'Bo' },
      { name: 'Cy' },
    ])
    assert.deepEqual(await rows('/q_people?select=name,q_calls()&q_calls=is.null'), [{ name: 'Di' }])
    assert.deepEqual(await rows('/q_people?select=name,q_calls()&q_calls.kind=eq.out&q_calls=not.is.null'), [{ name: 'Ada' }])
    const either = '/q_people?select=name,q_calls()&or=(q_calls.not.is.null,nick.eq.d)&order=id'
    assert.deepEqual((await rows(either)).map((row) => row.name), ['Ada', 'Bo', 'Cy', 'Di'])
    const deep = '/q_teams?select=name,q_people!inner(q_calls!inner())&q_people.q_calls.minutes=gt.9'
    assert.deepEqual((await rows(deep)).map((row) => row.name), ['sales'])
    const counted = await raw('/q_people?select=name,q_calls()&q_calls=not.is.null&limit=1', { headers: { prefer: 'count=exact' } })
    assert.equal(counted.header('content-range'), '0-0/3')
    const inner = await raw('/q_teams?select=name,q_people!inner(name)&q_people.id=lt.3', { headers: { prefer: 'count=exact' } })
    assert.deepEqual([inner.header('content-range'), inner.json()[0].q_people.length], ['0-0/1', 2])
  })

  test('that are not there, or could be two, are named in the error', async () => {
    const two = await raw('/q_routes?select=id,q_teams(name)')
    assert.deepEqual([two.status, two.json().code], [300, 'PGRST201'])
    assert.match(two.json().hint, /q_teams!q_routes_source_fkey.*q_teams!q_routes_goal_fkey|q_teams!q_routes_goal_fkey.*q_teams!q_routes_source_fkey/)
    assert.deepEqual(await rows('/q_routes?select=id,q_teams!q_routes_goal_fkey(name)'), [])
    const typo = await raw('/q_people?select=name,q_call(minutes)')
    assert.deepEqual([typo.status, typo.json().code], [400, 'PGRST200'])
    assert.match(typo.json().hint, /Perhaps you meant 'q_calls' instead of 'q_call'/)
    const many = await raw('/q_people?select=name,q_calls(minutes)&order=q_calls(minutes)')
    assert.deepEqual([many.status, many.json().code], [400, 'PGRST118'])
    assert.match(many.json().details, /'q_people' and 'q_calls' do not form a many-to-one/)
    const absent = await raw('/q_people?select=name&order=q_calls(minutes)')
    assert.deepEqual([absent.status, absent.json().code], [400, 'PGRST108'])
    assert.match(absent.json().hint, /'q_calls' is included in the 'select'/)
  })
})

describe('the shape of an answer', () => {
  test('without nulls, as an object, cast, and as other types', async () => {
    const stripped = { accept: 'application/vnd.pgrst.array+json;nulls=stripped' }
    assert.deepEqual(await rows('/q_people?select=name,nick&id=in.(1,3)&order=id', stripped), [
      { name: 'Ada', nick: 'a' },
      { name: 'Cy' },
    ])
    const one = { accept: 'application/vnd.pgrst.object+json;nulls=stripped' }
    assert.deepEqual(await rows('/q_people?select=name,nick&id=eq.3', one), { name: 'Cy' })
    assert.deepEqual(await rows('/q_people?select=id::text,year:born::text&id=eq.1'), [{ id: '1', year: '1990-01-02' }])
  })

  test('counts that are planned or estimated', async () => {
    const range = async (prefer, path = '/q_calls?select=id&limit=2') =>
      (await raw(path, { headers: { prefer: `count=${prefer}` } })).header('content-range')
    await sql(stack, 'analyze public.q_calls')
    assert.equal(await range('exact'), '0-1/4')
    assert.equal(await range('planned'), '0-1/4')
    assert.equal(await range('estimated'), '0-1/4')
    const limited = async () => must(await anon.from('q_calls').select('id')).length === 3
    await withSettings({ db_max_rows: '3' }, limited, async () => {
      assert.equal(await range('estimated', '/q_calls?select=id&id=lt.3'), '0-1/2', 'few are counted')
      // more than the limit are taken from the plan, which here knows them all
      assert.equal(await range('estimated', '/q_calls?select=id'), '0-2/4')
      assert.equal(await range('exact', '/q_calls?select=id'), '0-2/4')
    })
  })

  test('is a plan only where plans are allowed', async () => {
    const accept = 'application/vnd.pgrst.plan+json; for="application/json"; options=verbose|settings'
    assert.deepEqual(await refused('/q_people', { headers: { accept } }), [406, 'PGRST107'])
    const planned = async () => (await raw('/q_people', { headers: { accept } })).status === 200
    await withSettings({ db_plan_enabled: 'true' }, planned, async () => {
      const plan = await raw('/q_people?id=eq.1', { headers: { accept } })
      assert.equal(
        plan.header('content-type'),
        'application/vnd.pgrst.plan+json; for="application/json"; options=verbose|settings; charset=utf-8',
      )
      assert.ok(plan.json()[0].Plan['Node Type'])
      const text = await raw('/q_people', { headers: { accept: 'application/vnd.pgrst.plan' } })
      assert.match(text.text, /q_people/)
      const called = await raw('/rpc/q_numbers', { headers: { accept: 'application/vnd.pgrst.plan+text' } })
      assert.match(called.text, /cost=/)
      const body = '{"id": 99, "name": "Never"}'
      const written = await raw('/q_teams', { method: 'POST', headers: { ...json, accept: 'application/vnd.pgrst.plan' }, body })
      assert.match(written.text, /Insert on public\.q_teams|Insert on q_teams/)
      assert.deepEqual(await rows('/q_teams?id=eq.99'), [], 'a plan writes nothing')
    })
  })
})

describe('rows that are put in place', () => {
  const put = (path, body, prefer = 'return=minimal') =>
    raw(path, { method: 'PUT', headers: { ...json, prefer }, body: JSON.stringify(body) })

  test('are inserted or replaced by their key', async () => {
    const made = await put('/q_tags?person_id=eq.1&tag=eq.vip', { person_id: 1, tag: 'vip', note: 'n' }, 'return=representation')
    assert.deepEqual([made.status, made.json()], [201, [{ person_id: 1, tag: 'vip', note: 'n' }]])
    const again = await put('/q_tags?person_id=eq.1&tag=eq.vip', { person_id: 1, tag: 'vip', note: 'm' }, 'return=representation')
    assert.deepEqual([again.status, again.json()], [200, [{ person_id: 1, tag: 'vip', note: 'm' }]])
    const quiet = await put('/q_tags?person_id=eq.1&tag=eq.vip', { person_id: 1, tag: 'vip', note: null })
    assert.deepEqual([quiet.status, quiet.text], [204, ''])
    assert.deepEqual(await rows('/q_tags'), [{ person_id: 1, tag: 'vip', note: null }])
  })

  test('need all of the key, nothing else, and a body that agrees', async () => {
    const body = { person_id: 1, tag: 'vip', note: 'x' }
    const codes = async (path, sent = body) => {
      const answer = await put(path, sent)
      return [answer.status, answer.json().code]
    }
    assert.deepEqual(await codes('/q_tags?person_id=eq.1'), [405, 'PGRST105'])
    assert.deepEqual(await codes('/q_tags?person_id=eq.1&tag=eq.vip&note=eq.x'), [405, 'PGRST105'])
    assert.deepEqual(await codes('/q_tags?person_id=gt.0&tag=eq.vip'), [405, 'PGRST105'])
    assert.deepEqual(await codes('/q_tags?or=(person_id.eq.1,tag.eq.vip)'), [405, 'PGRST105'])
    assert.deepEqual(await codes('/q_tags?person_id=eq.1&tag=eq.vip&limit=1'), [400, 'PGRST114'])
    assert.deepEqual(await codes('/q_tags?person_id=eq.2&tag=eq.vip'), [400, 'PGRST115'])
    assert.deepEqual(await rows('/q_tags?person_id=eq.2'), [])
  })

  test('a new row tells where it is', async () => {
    const made = await raw('/q_tags', {
      method: 'POST',
      headers: { ...json, prefer: 'return=headers-only' },
      body: '{"person_id": 2, "tag": "a b"}',
    })
    assert.deepEqual([made.status, made.text], [201, ''])
    assert.equal(made.header('location'), '/q_tags?person_id=eq.2&tag=eq.a%20b')
  })
})

describe('functions', () => {
  const post = (name, body, type, more) =>
    raw(`/rpc/${name}`, { method: 'POST', headers: { 'content-type': type, ...more }, body })

  test('take a body as it is', async () => {
    assert.equal((await post('q_text', 'loud', 'text/plain')).json(), 'LOUD')
    assert.equal((await post('q_bytes', Buffer.from([0, 1, 255]), 'application/octet-stream')).json(), 3)
    assert.equal((await post('q_xml', '<a>in</a>', 'text/xml')).json(), 'in')
    assert.equal((await post('q_json', '[1,2,3]', 'application/json')).json(), 3)
    const none = await post('q_add', 'x', 'text/plain')
    assert.deepEqual([none.status, none.json().code], [404, 'PGRST202'])
    assert.match(none.json().details, /with a single unnamed text parameter/)
    assert.deepEqual((await post('q_add', '[1,', 'application/json')).json().code, 'PGRST102')
  })

  test('know an argument without a name by an empty one', async () => {
    assert.equal(must(await anon.rpc('q_echo')), 'nothing')
    assert.equal(must(await anon.rpc('q_echo', { '': 1 })), '{"":1}')
    assert.equal((await raw('/rpc/q_echo?=a')).json(), '{"":"a"}')
    const either = (await anon.rpc('q_maybe')).error
    assert.equal(either.code, 'PGRST203')
    assert.match(either.message, /public\.q_maybe\(\), public\.q_maybe\( => text\)$/)
    // No body can be a number: such a function is not there, and is not hinted at.
    const none = (await anon.rpc('q_turn', { '': 1 })).error
    assert.deepEqual([none.code, none.hint], ['PGRST202', 'Perhaps you meant to call the function public.q_text'])
  })

  test('take forms, lists and defaults', async () => {
    assert.equal((await post('q_add', 'a=1&b=2', 'application/x-www-form-urlencoded')).json(), 3)
    assert.equal((await post('q_sum', 'numbers=1&numbers=2&numbers=4', 'application/x-www-form-urlencoded')).json(), 7)
    assert.equal((await raw('/rpc/q_sum?numbers=1&numbers=2')).json(), 3)
    assert.equal(must(await anon.rpc('q_sum', { numbers: [3, 4] })), 7)
    assert.equal((await raw('/rpc/q_add?a=1')).json(), 11)
    assert.deepEqual(must(await anon.rpc('q_pair')), { low: 1, high: 2 })
    assert.deepEqual(must(await anon.rpc('q_numbers').range(1, 2)), [2, 3])
  })

  test('that cannot be told apart, or are not there, are named', async () => {
    const two = await post('q_same', '{"a": 1}', 'application/json')
    assert.deepEqual([two.status, two.json().code], [300, 'PGRST203'])
    assert.match(two.json().message, /public\.q_same\(a => integer\), public\.q_same\(a => text\)/)
    const typo = await post('q_ad', '{"a": 1}', 'application/json')
    assert.deepEqual([typo.status, typo.json().code], [404, 'PGRST202'])
    assert.match(typo.json().hint, /public\.q_add/)
    const argument = await post('q_add', '{"c": 1}', 'application/json')
    assert.match(argument.json().details, /with parameter c or with a single unnamed json\/jsonb parameter/)
    assert.deepEqual(await refused('/rpc/q_add?a=1', { method: 'PATCH' }), [405, 'PGRST101'])
  })

  test('run with their own isolation and the settings that are hoisted', async () => {
    assert.equal(must(await anon.rpc('q_isolation')), 'repeatable read')
    assert.equal(must(await anon.rpc('q_slow')), '7s')
  })

  test('see cookies and the time zone that is wished for', async () => {
    const seen = async (name, headers) => (await raw(`/rpc/q_setting?name=${name}`, { headers })).json()
    const cookies = JSON.parse(await seen('request.cookies', { cookie: 'theme=dark; lang=de' }))
    assert.deepEqual(cookies, { theme: 'dark', lang: 'de' })
    assert.equal(await seen('timezone', { prefer: 'timezone=Europe/Berlin' }), 'Europe/Berlin')
    const strict = await refused('/rpc/q_setting?name=timezone', { headers: { prefer: 'handling=strict, colour=blue' } })
    assert.deepEqual(strict, [400, 'PGRST122'])
  })
})

describe('what is no request', () => {
  test('is told so', async () => {
    assert.deepEqual(await refused('/q_people', { method: 'PROPFIND' }), [405, 'PGRST117'])
    assert.deepEqual(await refused('/', { method: 'POST' }), [405, 'PGRST117'])
    assert.deepEqual(await refused('/q_people', { method: 'POST', headers: { 'content-type': 'image/png' }, body: 'x' }), [400, 'PGRST102'])
    const big = await raw('/q_teams', { method: 'POST', headers: json, body: `"${'x'.repeat(17 << 20)}"` })
    assert.deepEqual([big.status, big.json().code], [413, 'PGRST102'])
    assert.match(big.json().message, /larger than 16777216 bytes/)
    const root = await raw('/', { headers: { accept: 'text/csv' } })
    assert.deepEqual([root.status, root.json().code], [406, 'PGRST107'])
  })

  test('has a token that says why it is refused', async () => {
    const shown = async (bearer) => {
      const answer = await raw('/q_teams', { headers: { authorization: `Bearer ${bearer}` } })
      const { code, message } = answer.json()
      assert.equal(answer.status, 401)
      assert.match(answer.header('www-authenticate'), /^Bearer error="invalid_token"/)
      return `${code} ${message}`
    }
    const good = token(stack, { role: 'anon' })
    const [head, payload] = good.split('.')
    const other = `${Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')}.${payload}.AAAA`
    assert.equal(await shown('one.two'), 'PGRST301 Expected 3 parts in JWT; got 2')
    assert.equal(await shown(other), 'PGRST301 Wrong or unsupported encoding algorithm')
    assert.equal(await shown(`${head}.${payload}.AAAA`), 'PGRST301 No suitable key or wrong key type')
    assert.equal(await shown('a.b.c'), 'PGRST301 JWT cryptographic operation failed')
    const now = Math.floor(Date.now() / 1000)
    assert.equal(await shown(token(stack, { role: 'anon', exp: now - 100 })), 'PGRST303 JWT expired')
    assert.equal(await shown(token(stack, { role: 'anon', nbf: now + 100 })), 'PGRST303 JWT not yet valid')
    assert.equal(await shown(token(stack, { role: 'anon', iat: now + 100 })), 'PGRST303 JWT issued at future')
    assert.match(await shown(token(stack, { role: 'anon', exp: 'soon' })), /PGRST303 .*'exp' claim must be a number/)
    assert.match(await shown(token(stack, { role: 'anon', aud: 7 })), /PGRST303 .*'aud' claim must be/)
    const lists = await raw('/q_teams?id=eq.1', { headers: { authorization: `Bearer ${token(stack, { role: 'anon', aud: ['x', 'y'] })}` } })
    assert.equal(lists.status, 200)
  })
})

describe('settings of the login role', () => {
  test('jwt_aud wants tokens of one audience', async () => {
    const other = async () => {
      const authorization = `Bearer ${token(stack, { role: 'anon', aud: 'other' })}`
      return (await raw('/q_teams', { headers: { authorization } })).json().message === 'JWT not in audience'
    }
    await withSettings({ jwt_aud: 'portal' }, other, async () => {
      const authorization = `Bearer ${token(stack, { role: 'anon', aud: ['portal', 'other'] })}`
      assert.equal((await raw('/q_teams', { headers: { authorization } })).status, 200)
    })
  })

  test('openapi_mode can hide the description', async () => {
    const hidden = async () => (await raw('/')).status === 404
    await withSettings({ openapi_mode: 'disabled' }, hidden, async () => {
      assert.deepEqual(await refused('/'), [404, 'PGRST126'])
    })
    await sql(stack, 'create table public.q_secret (id int); revoke all on public.q_secret from anon')
    await until(async () => (await raw('/q_secret', { headers: { apikey: stack.serviceKey } })).status !== 404, 'the table')
    const listed = async () => '/q_secret' in (await raw('/')).json().paths
    assert.equal(await listed(), false)
    await withSettings({ openapi_mode: 'ignore-privileges' }, listed, async () => {})
  })

  test('db_schemas says what is served, and db_anon_role whether a stranger is', async () => {
    await sql(stack, `create schema q_more; create table q_more.things (id int); insert into q_more.things values (7);
      grant usage on schema q_more to anon; grant select on q_more.things to anon`)
    const profile = { 'accept-profile': 'q_more' }
    const served = async () => (await raw('/things', { headers: profile })).status === 200
    assert.deepEqual(await refused('/things', { headers: profile }), [406, 'PGRST106'])
    await withSettings({ db_schemas: 'public, q_more' }, served, async () => {
      const more = await raw('/things', { headers: profile })
      assert.deepEqual([more.json(), more.header('content-profile')], [[{ id: 7 }], 'q_more'])
    })
  })

  test('that make no sense change nothing', async () => {
    for (const [name, value] of [['db_max_rows', 'many'], ['db_plan_enabled', 'perhaps'], ['db_tx_end', 'never'], ['openapi_mode', 'all']]) {
      await sql(stack, `alter role authenticator set "pgrst.${name}" = '${value}'`)
    }
    // a setting that makes sense shows that the others were read too
    const counted = async () => (await raw('/q_calls?select=count()')).status === 200
    await withSettings({ db_aggregates_enabled: 'on' }, counted, async () => {
      assert.equal(must(await anon.from('q_calls').select('id')).length, 4)
      assert.deepEqual(await refused('/q_people', { headers: { accept: 'application/vnd.pgrst.plan' } }), [406, 'PGRST107'])
      assert.equal((await raw('/')).json().swagger, '2.0')
    })
    await sql(stack, 'alter role authenticator reset all')
  })
})
