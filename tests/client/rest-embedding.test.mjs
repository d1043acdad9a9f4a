// REST where rows of one relation come with those of others: which relationship is meant, what is said when none or
// several are, through views and partitions, and what becomes of rows that are not there.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { client, must, sql, start, until } from './support.mjs'

let stack, anon

const SCHEMA = `
  create table public.e_ports (id int primary key, name text, chief int);
  create table public.e_crew (id int primary key, name text, home int references public.e_ports);
  alter table public.e_ports add constraint e_ports_chief foreign key (chief) references public.e_crew;
  create table public.e_visits (
    crew_id int references public.e_crew, port_id int references public.e_ports, primary key (crew_id, port_id)
  );
  insert into public.e_ports values (1, 'Kiel', null), (2, null, null), (3, 'Oslo', null);
  insert into public.e_crew values (1, 'Ann', 1), (2, 'Bob', 2), (3, 'Cas', null);
  update public.e_ports set chief = 1 where id = 1;
  insert into public.e_visits values (1, 2), (1, 3), (2, 3);

  -- one column under two names: two ways to the same relation
  create view public.e_homes as select name, home as first_home, home as second_home from public.e_crew;
  -- computed columns, grouping and common table expressions leave a key what it is
  create view public.e_counts as
    with known as (select * from public.e_crew)
    select home, count(*) as crew, max(upper(name)) as last from known group by home;
  create materialized view public.e_kept as select id, home from public.e_crew;

  create table public.e_trips (id int, year int, crew_id int references public.e_crew, primary key (id, year))
    partition by list (year);
  create table public.e_trips_2024 partition of public.e_trips for values in (2024);
  create table public.e_trips_rest partition of public.e_trips default;
  insert into public.e_trips values (1, 2024, 1), (2, 2025, 1);

  -- a one-to-one relationship needs a constraint that holds the whole foreign key
  create table public.e_papers (crew_id int primary key references public.e_crew, number text);
  insert into public.e_papers values (1, 'P-1');

  create domain public.e_grams as int;
  create function public.e_grams_json(public.e_grams) returns json language sql immutable return to_json($1 || ' g');
  create cast (public.e_grams as json) with function public.e_grams_json(public.e_grams) as implicit;
  create table public.e_loads (id int primary key, weight public.e_grams, crew_id int references public.e_crew);
  insert into public.e_loads values (1, 5, 1);

  grant select on all tables in schema public to anon;
`

before(async () => {
  stack = await start()
  await sql(stack, SCHEMA)
  anon = client(stack)
  await until(async () => (await anon.from('e_loads').select()).data, 'the new schema')
})

after(() => stack.stop())

async function ask(path, headers = {}) {
  const answer = await fetch(`${stack.url}/rest/v1${path}`, { headers: { apikey: stack.anonKey, ...headers } })
  return { status: answer.status, range: answer.headers.get('content-range'), body: await answer.json() }
}

const rows = async (path) => {
  const { status, body } = await ask(path)
  assert.equal(status, 200, JSON.stringify(body))
  return body
}

describe('which relationship is meant', () => {
  test('several are told in one order: to many, to one, through a third relation', async () => {
    const { status, body } = await ask('/e_crew?select=id,e_ports(id)')
    assert.equal(status, 300)
    assert.deepEqual(
      body.details.map((way) => `${way.cardinality} ${way.relationship}`),
      [
        'one-to-many e_ports_chief using e_crew(id) and e_ports(chief)',
        'many-to-one e_crew_home_fkey using e_crew(home) and e_ports(id)',
        'many-to-many e_visits using e_visits_crew_id_fkey(crew_id) and e_visits_port_id_fkey(port_id)',
      ],
    )
    assert.match(body.hint, /'e_ports!e_ports_chief', 'e_ports!e_crew_home_fkey', 'e_ports!e_visits'/)
  })

  test('each can be named: by constraint, column or junction', async () => {
    const of = (hint) => rows(`/e_crew?id=eq.1&select=p:e_ports!${hint}(id)&p.order=id`)
    assert.deepEqual(await of('e_ports_chief'), [{ p: [{ id: 1 }] }])
    assert.deepEqual(await of('home'), [{ p: { id: 1 } }])
    assert.deepEqual(await of('e_visits'), [{ p: [{ id: 2 }, { id: 3 }] }])
    assert.deepEqual(await rows('/e_crew?id=eq.1&select=home(id)'), [{ home: { id: 1 } }])
    assert.deepEqual(await rows('/e_crew?id=eq.1&select=e_papers(number)'), [{ e_papers: { number: 'P-1' } }])
  })

  test('one name cannot be shown twice', async () => {
    const twice = await anon.from('e_visits').select('e_crew(id), e_crew(name)')
    assert.deepEqual([twice.status, twice.error.code], [400, '42712'])
    assert.equal(twice.error.message, 'table name "e_visits_e_crew_1" specified more than once')
    must(await anon.from('e_visits').select('e_crew(id), who:e_crew(name)'))
  })

  test('names as long as Postgres keeps them stay apart', async () => {
    const long = 'a'.repeat(62)
    const rows = must(await anon.from('e_visits').select(`${long}1:e_crew(id), ${long}2:e_ports(id)`).limit(1))
    assert.deepEqual(Object.values(rows[0]), [{ id: 1 }, { id: 2 }])
  })

  test('a name that is nearly right gets a hint, a hint that is wrong none', async () => {
    const wrong = await ask('/e_crew?select=e_port(id)')
    assert.equal(wrong.body.code, 'PGRST200')
    assert.equal(wrong.body.hint, "Perhaps you meant 'e_ports' instead of 'e_port'.")
    const hinted = await ask('/e_crew?select=e_ports!nothing(id)')
    assert.equal(hinted.body.hint, null)
    assert.match(hinted.body.details, /using the hint 'nothing' in the schema 'public'/)
  })
})

describe('views and partitions', () => {
  test('a view takes part under its own names, twice if it shows a column twice', async () => {
    const { status, body } = await ask('/e_homes?select=name,e_ports(name)')
    assert.equal(status, 300)
    assert.deepEqual(
      body.details.map((way) => way.relationship),
      [
        'e_crew_home_fkey using e_homes(first_home) and e_ports(id)',
        'e_crew_home_fkey using e_homes(second_home) and e_ports(id)',
      ],
    )
    assert.deepEqual(await rows('/e_homes?name=eq.Ann&select=e_ports!second_home(name)'), [{ e_ports: { name: 'Kiel' } }])
  })

  test('a key is followed through grouping and materialised views', async () => {
    assert.deepEqual(await rows('/e_counts?home=eq.1&select=crew,e_ports(name)'), [{ crew: 1, e_ports: { name: 'Kiel' } }])
    assert.deepEqual(await rows('/e_kept?id=eq.1&select=e_ports!home(name)'), [{ e_ports: { name: 'Kiel' } }])
  })

  test('a partitioned table is related, its partitions are not there', async () => {
    assert.deepEqual(await rows('/e_crew?id=eq.1&select=e_trips(year)&e_trips.order=year'), [
      { e_trips: [{ year: 2024 }, { year: 2025 }] },
    ])
    assert.equal((await ask('/e_trips_2024?select=*')).body.code, 'PGRST205')
    assert.equal((await ask('/e_crew?select=e_trips_2024(id)')).body.code, 'PGRST200')
  })
})

describe('rows that are there and rows that are not', () => {
  test('a row of nulls is a row', async () => {
    assert.deepEqual(await rows('/e_crew?select=name,port:e_ports!home(name)&port=not.is.null&order=id'), [
      { name: 'Ann', port: { name: 'Kiel' } },
      { name: 'Bob', port: { name: null } },
    ])
    assert.deepEqual(await rows('/e_crew?select=name,port:e_ports!home()&port=is.null'), [{ name: 'Cas' }])
  })

  test('!inner drops parents on every level, and counts agree', async () => {
    const path = '/e_ports?select=id,e_crew!home!inner(id,e_trips!inner(year))&e_crew.e_trips.year=eq.2025'
    const { status, range, body } = await ask(path, { prefer: 'count=exact' })
    assert.deepEqual([status, range], [200, '0-0/1'])
    assert.deepEqual(body, [{ id: 1, e_crew: [{ id: 1, e_trips: [{ year: 2025 }] }] }])
  })

  test('spread columns are null without a row, and arrays of what many rows hold', async () => {
    assert.deepEqual(await rows('/e_crew?select=id,...e_ports!home(port:name)&order=id'), [
      { id: 1, port: 'Kiel' },
      { id: 2, port: null },
      { id: 3, port: null },
    ])
    assert.deepEqual(await rows('/e_ports?select=id,...e_crew!home(name)&order=id'), [
      { id: 1, name: ['Ann'] },
      { id: 2, name: ['Bob'] },
      { id: 3, name: [] },
    ])
    assert.deepEqual(await rows('/e_ports?select=id,...e_crew!home()&e_crew=is.null'), [{ id: 3 }])
  })

  test('parents are ordered by a row they have, not by many', async () => {
    const names = await rows('/e_crew?select=name,e_ports!home(name)&order=e_ports(name).desc.nullslast,name')
    assert.deepEqual(names.map((row) => row.name), ['Ann', 'Bob', 'Cas'])
    const { body } = await ask('/e_ports?select=id,crew:e_crew!home(id)&order=crew(id)')
    assert.equal(body.details, "'e_ports' and 'crew' do not form a many-to-one or one-to-one relationship")
  })

  test('rows behind the last are refused with how many there are', async () => {
    const { status, range, body } = await ask('/e_ports?offset=4', { prefer: 'count=exact' })
    assert.deepEqual([status, range, body.code], [416, '*/3', 'PGRST103'])
  })
})

describe('what is taken of them', () => {
  test('a domain shows itself as it does, embedded and cast too', async () => {
    assert.deepEqual(await rows('/e_crew?id=eq.1&select=e_loads(weight)'), [{ e_loads: [{ weight: '5 g' }] }])
    assert.deepEqual(await rows('/e_loads?select=weight::text'), [{ weight: '"5 g"' }])
  })

  test('aggregates that are not allowed are refused before asking whether they could be computed', async () => {
    for (const path of ['/e_ports?select=...e_crew!home(id.count())', '/e_crew?select=...e_ports!home(id.max())']) {
      assert.equal((await ask(path)).body.code, 'PGRST123', path)
    }
    const counted = must(await anon.from('e_crew').select('id, e_trips(count)').eq('id', 1))
    assert.deepEqual(counted, [{ id: 1, e_trips: [{ count: 2 }] }])
  })
})

describe('what cannot be read', () => {
  const cases = [
    ['order=id.ac', 4, 'unexpected "c" expecting "asc", "desc", "nullsfirst" or "nullslast"'],
    ['order=id.descc', 8, "unexpected 'c' expecting delimiter (.), \",\" or end of input"],
    ['order=id.asc.nlsfst', 8, 'unexpected "l" expecting "nullsfirst" or "nullslast"'],
    ['order=id.nullslastt', 13, "unexpected 't' expecting \",\" or end of input"],
    ['select=name->>--1', 9, 'unexpected "-" expecting digit'],
    ['select=*!x', 2, 'unexpected \'!\' expecting ")", "," or end of input'],
    ['id=is.nil', 5, 'unexpected "i" expecting isVal: (null, not_null, true, false, unknown)'],
    ['id=eqq.1', 3, 'unexpected "q" expecting operator (eq, gt, ...)'],
    ['or=(id.eq.1,not.xor(id.eq.2))', 16, 'unexpected "x" expecting logic operator (and, or)'],
  ]
  for (const [query, column, details] of cases) {
    test(`${query} says where and what else`, async () => {
      const { status, body } = await ask(`/e_crew?${query}`)
      assert.deepEqual([status, body.code, body.details], [400, 'PGRST100', details])
      assert.ok(body.message.endsWith(`(line 1, column ${column})`), body.message)
    })
  }
})
