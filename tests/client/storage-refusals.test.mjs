// What storage refuses that storage-js would not ask for, and what its refusals leave behind: nothing.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'

import { client, must, sql, start, token } from './support.mjs'

let stack, service, bucket
before(async () => {
  stack = await start()
  service = client(stack, stack.serviceKey)
  bucket = `refusals-${randomUUID()}`
  must(await service.storage.createBucket(bucket, { public: false }))
})
after(async () => {
  await service.storage.emptyBucket(bucket)
  await service.storage.deleteBucket(bucket)
  await stack.stop()
})

/** A request by hand, with the service key. */
async function call(method, path, { body, headers = {} } = {}) {
  const given = body !== undefined && !(body instanceof FormData) && !Buffer.isBuffer(body)
  const answer = await fetch(`${stack.url}/storage/v1${path}`, {
    method,
    headers: {
      apikey: stack.serviceKey,
      authorization: `Bearer ${stack.serviceKey}`,
      ...(given && { 'content-type': 'application/json' }),
      ...headers,
    },
    body: given ? JSON.stringify(body) : body,
  })
  const text = await answer.text()
  return { status: answer.status, header: (name) => answer.headers.get(name), text, json: () => JSON.parse(text) }
}

async function refusal(...request) {
  const answer = await call(...request)
  assert.ok(answer.status >= 400, `${answer.status} ${answer.text}`)
  const { statusCode, message } = answer.json()
  return [statusCode, message]
}

const exists = async (name) => !(await service.storage.from(bucket).exists(name)).error

test('buckets of a kind there is not, changes that change nothing, lists of nothing', async () => {
  const name = `refusals-${randomUUID()}`
  assert.deepEqual(await refusal('POST', '/bucket', { body: { name, type: 'ANALYTICS' } }), [
    '400',
    'only buckets of type STANDARD are supported',
  ])
  assert.ok((await service.storage.getBucket(name)).error)
  assert.match((await refusal('PUT', `/bucket/${bucket}`, { body: {} }))[1], /fewer than 1 properties/)
  assert.match((await refusal('POST', `/object/list/${bucket}`, { body: { prefix: '', limit: 0 } }))[1], /limit must be >= 1/)
})

test('forms with too much in them, or what no header can carry', async () => {
  const form = (fields) => {
    const made = new FormData()
    for (const [name, value] of fields) made.append(name, value)
    made.append('', new Blob(['x']), 'x')
    return made
  }
  const post = (name, fields) => refusal('POST', `/object/${bucket}/${name}`, { body: form(fields) })
  const many = Array.from({ length: 200 }, (_, number) => [`field-${number}`, 'x'])
  assert.match((await post('many.txt', many))[1], /reach fields limit/)
  assert.equal((await post('long.txt', [['metadata', 'x'.repeat(2 << 20)]]))[0], '413')
  assert.match((await post('control.txt', [['cacheControl', 'a\u0001b']]))[1], /characters a header cannot have/)
  assert.match((await post('metadata.txt', [['metadata', '{"a":']]))[1], /metadata is not JSON/)
  for (const name of ['many.txt', 'long.txt', 'control.txt', 'metadata.txt']) assert.equal(await exists(name), false, name)
})

test('links whose token is for something else', async () => {
  const files = service.storage.from(bucket)
  must(await files.upload('linked.txt', 'content'))
  const { signedUrl } = must(await files.createSignedUrl('linked.txt', 60))
  const path = new URL(signedUrl).pathname.replace('/storage/v1', '')
  const claims = { url: `${bucket}/linked.txt` }
  const refused = async (more) => refusal('GET', `${path}?token=${token(stack, { ...claims, ...more })}`)
  assert.equal((await call('GET', `${path}?token=${token(stack, claims)}`)).text, 'content', 'a token of old')
  assert.equal((await refused({ scope: 'upload' }))[1], 'Token is not scoped for download')
  assert.equal((await refused({ scope: 'paint' }))[1], 'Invalid signature')
  assert.equal((await refused({ url: `${bucket}/other.txt` }))[1], 'Invalid signature')
  const upload = await refusal('PUT', `/object/upload/sign/${bucket}/new.txt?token=${token(stack, { url: `${bucket}/new.txt`, scope: 'download' })}`, {
    body: Buffer.from('x'),
  })
  assert.equal(upload[1], 'Token is not scoped for upload')
  assert.equal(await exists('new.txt'), false)
})

test('a rest of a file that has changed since is the whole file', async () => {
  const files = service.storage.from(bucket)
  must(await files.upload('long.txt', '0123456789', { contentType: 'text/plain' }))
  const get = (headers) => call('GET', `/object/authenticated/${bucket}/long.txt`, { headers })
  const whole = await get()
  const [etag, date] = [whole.header('etag'), whole.header('last-modified')]
  const rest = (condition) => get({ range: 'bytes=4-', 'if-range': condition }).then(({ status, text }) => [status, text])
  assert.deepEqual(await rest(etag), [206, '456789'])
  assert.deepEqual(await rest(date), [206, '456789'])
  assert.deepEqual(await rest('"another"'), [200, '0123456789'])
  assert.deepEqual(await rest('Mon, 01 Jan 2001 00:00:00 GMT'), [200, '0123456789'])
})

test('a copy with metadata that cannot be read is not made', async () => {
  const files = service.storage.from(bucket)
  must(await files.upload('source.txt', 'content', { contentType: 'text/plain' }))
  const copy = (destinationKey, metadata) =>
    call('POST', '/object/copy', {
      body: {
        bucketId: bucket,
        sourceKey: 'source.txt',
        destinationKey,
        copyMetadata: false,
        metadata: { mimetype: 'text/html', cacheControl: 'max-age=5' },
      },
      headers: { 'x-metadata': metadata },
    })
  const bad = await copy('bad.txt', 'nonsense')
  assert.equal(bad.status, 400)
  assert.match(bad.json().message, /x-metadata is not base64-encoded JSON/)
  assert.equal(await exists('bad.txt'), false)
  const good = await copy('good.txt', Buffer.from('{"colour":"red"}').toString('base64'))
  assert.equal(good.status, 200, good.text)
  const info = must(await files.info('good.txt'))
  assert.deepEqual([info.contentType, info.cacheControl, info.metadata], ['text/html', 'max-age=5', { colour: 'red' }])
})

test('a policy that cannot be asked is told as such, and lets nothing through', async () => {
  await sql(
    stack,
    `create function public.refusals_broken() returns boolean language plpgsql as 'begin return (select missing from public.refusals_nowhere); end';
     create policy refusals_broken on storage.objects to anon using (public.refusals_broken()) with check (public.refusals_broken())`,
  )
  try {
    const { error } = await client(stack).storage.from(bucket).upload('policy.txt', 'x')
    assert.equal(error?.statusCode, '503')
  } finally {
    await sql(stack, 'drop policy refusals_broken on storage.objects; drop function public.refusals_broken()')
  }
  assert.equal(await exists('policy.txt'), false)
})
