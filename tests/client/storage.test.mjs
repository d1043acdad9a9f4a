// Files through every method of storage-js, by roles that policies tell apart, and what HTTP adds: ranges,
// conditions, bad input, clients that hang up.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'

import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

import { client, must, sql, start, token, until } from './support.mjs'

// Rooms stand for chats: a participant may do everything in his room's folder.
const POLICIES = `
  create table public.storage_test_rooms (id uuid primary key, participant uuid not null);
  grant select on public.storage_test_rooms to authenticated;
  create policy storage_test_all on storage.objects to authenticated
    using (bucket_id like 'test-%' and exists (
      select from public.storage_test_rooms room
      where room.id::text = (storage.foldername(name))[1] and room.participant = (select auth.uid())))
    with check (bucket_id like 'test-%' and exists (
      select from public.storage_test_rooms room
      where room.id::text = (storage.foldername(name))[1] and room.participant = (select auth.uid())));
  -- A letter box: whoever may put something in sees nothing of it.
  create policy storage_test_letter_box on storage.objects for insert to anon
    with check (bucket_id like 'test-%' and (storage.foldername(name))[1] = 'letter-box'
      and storage.operation() = 'storage.object.upload');
`
const NO_POLICIES = `
  drop policy if exists storage_test_all on storage.objects;
  drop policy if exists storage_test_letter_box on storage.objects;
  drop table if exists public.storage_test_rooms;
`

let stack, service, anon
before(async () => {
  stack = await start()
  service = client(stack, stack.serviceKey)
  anon = client(stack)
  await sql(stack, NO_POLICIES)
  await sql(stack, POLICIES)
})
after(async () => {
  if (!stack) return
  for (const { id } of must(await service.storage.listBuckets({ search: 'test-' }))) {
    must(await service.storage.emptyBucket(id))
    must(await service.storage.deleteBucket(id))
  }
  await sql(stack, NO_POLICIES)
  await stack.stop()
})

/** A user by token alone: storage looks at nothing else. */
function someone() {
  const id = randomUUID()
  const bearer = token(stack, { role: 'authenticated', sub: id })
  const made = createClient(stack.url, stack.anonKey, {
    accessToken: async () => bearer,
    realtime: { transport: ws },
  })
  return { id, client: made, bearer }
}

/** A bucket of its own, a room in it, and the room's participant. */
async function room(options) {
  const bucket = `test-${randomUUID()}`
  must(await service.storage.createBucket(bucket, { public: false, ...options }))
  const participant = someone()
  const id = randomUUID()
  await sql(stack, 'insert into public.storage_test_rooms values ($1, $2)', [id, participant.id])
  const files = participant.client.storage.from(bucket)
  return { bucket, id, participant, files, at: (name) => `${id}/${name}` }
}

async function refused(call, code, message) {
  const { data, error } = await call
  assert.equal(data, null)
  assert.equal(error?.code, code, error?.message)
  if (message) assert.equal(error.message, message)
  return error
}

const text = async (answer) => (await must(await answer)).text()
const address = (path) => `${stack.url}/storage/v1${path}`
const sweptUp = () =>
  until(async () => (await sql(stack, 'select version from storage.blobs_to_delete')).length === 0, 'unneeded blobs to go')
const rows = (bucket) => sql(stack, 'select * from storage.objects where bucket_id = $1 order by name', [bucket])

test('the service makes, changes, lists, empties and deletes buckets', async () => {
  const id = `test-${randomUUID()}`
  const made = must(
    await service.storage.createBucket(id, { public: true, fileSizeLimit: '20KB', allowedMimeTypes: ['image/*'] }),
  )
  assert.deepEqual(made, { name: id })
  const shown = must(await service.storage.getBucket(id))
  assert.match(shown.created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  const { created_at, updated_at, ...rest } = shown
  assert.deepEqual(rest, {
    id, name: id, owner: '', public: true, file_size_limit: 20_000, allowed_mime_types: ['image/*'],
  })
  const [listed] = must(await service.storage.listBuckets({ search: id, sortColumn: 'created_at', limit: 1 }))
  assert.equal(listed.type, 'STANDARD')

  await refused(service.storage.createBucket(id), 'BucketAlreadyExists', 'The resource already exists')
  must(await service.storage.updateBucket(id, { public: false, fileSizeLimit: null, allowedMimeTypes: null }))
  const changed = must(await service.storage.getBucket(id))
  assert.deepEqual([changed.public, changed.file_size_limit, changed.allowed_mime_types], [false, null, null])

  must(await service.storage.from(id).upload('a/b.txt', 'text'))
  await refused(service.storage.deleteBucket(id), 'ResourceNotEmpty')
  must(await service.storage.emptyBucket(id))
  assert.deepEqual(must(await service.storage.deleteBucket(id)), { message: 'Successfully deleted' })
  await refused(service.storage.getBucket(id), 'NoSuchBucket', 'Bucket not found')
  await refused(service.storage.updateBucket(id, { public: true }), 'NoSuchBucket')
  await refused(service.storage.deleteBucket(id), 'NoSuchBucket')
  await sweptUp()
})

test('an API key of the new style is a role too', async () => {
  const { bucket } = await room()
  const secret = client(stack, stack.secretKey).storage
  must(await secret.from(bucket).upload('a', 'x'))
  const publishable = client(stack, stack.publishableKey).storage
  assert.deepEqual(must(await publishable.from(bucket).list()), [])
  must(await publishable.from(bucket).upload('letter-box/a', 'x'))
})

test('others make no buckets, see none, and empty none', async () => {
  const { bucket, participant } = await room()
  for (const each of [anon, participant.client]) {
    await refused(each.storage.createBucket(`test-${randomUUID()}`), 'AccessDenied', 'new row violates row-level security policy')
    assert.deepEqual(must(await each.storage.listBuckets()), [])
    await refused(each.storage.getBucket(bucket), 'NoSuchBucket')
    await refused(each.storage.updateBucket(bucket, { public: true }), 'NoSuchBucket')
    await refused(each.storage.deleteBucket(bucket), 'NoSuchBucket')
    const error = await refused(each.storage.emptyBucket(bucket), 'AccessDenied', 'Access denied: Invalid role')
    assert.equal(error.status, 403)
  }
})

test('buckets have proper names and limits', async () => {
  for (const name of ['a/b', ' a', 'ü', 'x'.repeat(101)]) {
    await refused(service.storage.createBucket(name), 'InvalidBucketName')
  }
  const id = `test-${randomUUID()}`
  await refused(service.storage.createBucket(id, { public: false, fileSizeLimit: 'much' }), 'InvalidRequest')
  await refused(service.storage.createBucket(id, { public: false, fileSizeLimit: '500GB' }), 'EntityTooLarge')
  await refused(service.storage.createBucket(id, { public: false, allowedMimeTypes: ['png'] }), 'InvalidMimeType')
})

test('whatever storage-js sends comes back byte for byte', async () => {
  const { bucket, files, at, participant } = await room()
  const bytes = Uint8Array.from({ length: 3_000 }, (_, index) => index % 256)
  const form = new FormData()
  form.append('file', new Blob([bytes], { type: 'image/png' }), 'form.png')
  const bodies = {
    'file.png': new File([bytes], 'file.png', { type: 'image/png' }),
    'blob.png': new Blob([bytes], { type: 'image/png' }),
    'form.png': form,
    'array.png': bytes,
    'buffer.png': bytes.buffer,
    'node.png': Readable.from([bytes.slice(0, 1_000), bytes.slice(1_000)]),
    'web.png': new Blob([bytes]).stream(),
  }
  for (const [name, body] of Object.entries(bodies)) {
    const sent = must(await files.upload(at(name), body, { contentType: 'image/png', metadata: { from: name } }))
    assert.equal(sent.path, at(name))
    assert.equal(sent.fullPath, `${bucket}/${at(name)}`)
    const back = must(await files.download(at(name)))
    assert.equal(back.type, 'image/png')
    assert.deepEqual(new Uint8Array(await back.arrayBuffer()), bytes, name)
    const known = must(await files.info(at(name)))
    assert.deepEqual(
      [known.id, known.size, known.contentType, known.cacheControl, known.metadata, known.bucketId],
      [sent.id, 3_000, 'image/png', 'max-age=3600', { from: name }, bucket],
    )
    assert.match(known.etag, /^"[0-9a-f]{32}"$/)
  }
  const [row] = await rows(bucket)
  assert.equal(row.owner, participant.id)
  assert.equal(row.owner_id, participant.id)
  assert.equal(row.metadata.size, 3_000)
  must(await files.upload(at('note.txt'), 'plain text'))
  const streamed = must(await files.download(at('note.txt')).asStream())
  assert.equal(await new Response(streamed).text(), 'plain text')
  must(await files.upload(at('empty'), new Blob([])))
  assert.equal(await text(files.download(at('empty'))), '')
})

test('a large file passes through and its parts can be asked for', async () => {
  const { bucket, files, at, participant } = await room()
  const bytes = Buffer.alloc(23 << 20, (Math.random() + '').slice(2))
  must(await files.upload(at('large'), bytes, { contentType: 'video/mp4' }))
  const get = (range) =>
    fetch(address(`/object/${bucket}/${at('large')}`), { headers: { Authorization: `Bearer ${participant.bearer}`, range } })
  assert.ok(bytes.equals(Buffer.from(await (await get('bytes=0-')).arrayBuffer())))
  const part = await get('bytes=9000000-9000009')
  assert.equal(part.status, 206)
  assert.equal(part.headers.get('content-range'), `bytes 9000000-9000009/${bytes.length}`)
  assert.ok(bytes.subarray(9_000_000, 9_000_010).equals(Buffer.from(await part.arrayBuffer())))
})

test('policies decide who writes, reads, lists, signs, changes and deletes', async () => {
  const { bucket, files, at, participant } = await room()
  must(await files.upload(at('own.txt'), 'own'))
  const violation = 'new row violates row-level security policy'
  for (const each of [anon, someone().client]) {
    const others = each.storage.from(bucket)
    await refused(others.upload(at('forged.txt'), 'x'), 'AccessDenied', violation)
    await refused(others.upload(at('forged.txt'), new Blob(['x'])), 'AccessDenied', violation)
    await refused(others.update(at('own.txt'), 'x'), 'AccessDenied', violation)
    await refused(others.createSignedUploadUrl(at('forged.txt')), 'AccessDenied', violation)
    const { error } = await others.download(at('own.txt'))
    assert.equal(error.status, 400)
    await refused(others.info(at('own.txt')), 'NoSuchKey', 'Object not found')
    assert.equal((await others.exists(at('own.txt'))).data, false)
    await refused(others.createSignedUrl(at('own.txt'), 60), 'NoSuchKey')
    const [signed] = must(await others.createSignedUrls([at('own.txt')], 60))
    assert.match(signed.error, /does not exist or you do not have access/)
    assert.deepEqual(must(await others.list()), [])
    assert.deepEqual(must(await others.list(at('').slice(0, -1))), [])
    assert.deepEqual(must(await others.listV2()).objects, [])
    await refused(others.move(at('own.txt'), at('moved.txt')), 'NoSuchKey')
    await refused(others.copy(at('own.txt'), at('copied.txt')), 'NoSuchKey')
    assert.deepEqual(must(await others.remove([at('own.txt')])), [])
  }
  for (const [path, bearer, code] of [
    ['authenticated', participant.bearer, undefined],
    ['authenticated', someone().bearer, 'NoSuchKey'],
    ['authenticated', 'nonsense', 'AccessDenied'],
    ['info/authenticated', someone().bearer, 'NoSuchKey'],
    ['public', participant.bearer, 'NoSuchBucket'],
  ]) {
    const answer = await fetch(address(`/object/${path}/${bucket}/${at('own.txt')}`), { headers: { Authorization: `Bearer ${bearer}` } })
    const content = await answer.text()
    if (code) assert.equal(JSON.parse(content).code, code, path)
    else assert.equal(content, 'own')
  }
  await refused(files.upload(`${randomUUID()}/x`, 'x'), 'AccessDenied', violation)
  await refused(files.upload('x', 'x'), 'AccessDenied', violation)
  await refused(files.move(at('own.txt'), 'elsewhere.txt'), 'AccessDenied', violation)
  await refused(files.copy(at('own.txt'), 'elsewhere.txt'), 'AccessDenied', violation)
  assert.equal(await text(files.download(at('own.txt'))), 'own')
  assert.equal((await rows(bucket)).length, 1)
})

test('a right to insert alone is enough for an upload, and policies know the operation', async () => {
  const { bucket } = await room()
  const letterBox = anon.storage.from(bucket)
  must(await letterBox.upload('letter-box/one.txt', 'x'))
  await refused(letterBox.upload('letter-box/one.txt', 'y'), 'KeyAlreadyExists')
  await refused(letterBox.upload('letter-box/two.txt', 'x', { upsert: true }), 'AccessDenied')
  await refused(letterBox.createSignedUploadUrl('letter-box/two.txt'), 'AccessDenied')
  const [row] = await rows(bucket)
  assert.deepEqual([row.owner, row.owner_id], [null, null])
})

test('a key is taken once, replaced on request, and old bytes go', async () => {
  const { bucket, files, at } = await room()
  const first = must(await files.upload(at('a.txt'), 'first'))
  await refused(files.upload(at('a.txt'), 'second'), 'KeyAlreadyExists', 'The resource already exists')
  await refused(files.upload(at('a.txt'), new Blob(['second'])), 'KeyAlreadyExists')
  const second = must(await files.upload(at('a.txt'), 'second', { upsert: true }))
  assert.equal(second.id, first.id)
  assert.equal(await text(files.download(at('a.txt'))), 'second')
  must(await files.update(at('a.txt'), new Blob(['third'], { type: 'text/css' })))
  const back = must(await files.download(at('a.txt')))
  assert.deepEqual([await back.text(), back.type], ['third', 'text/css'])
  assert.equal((await rows(bucket)).length, 1)
  await sweptUp()
  assert.equal(await text(files.download(at('a.txt'))), 'third')
})

test('of uploads to one key at once exactly one wins', async () => {
  const { bucket, files, at } = await room()
  // all have been permitted and are under way before the first ends
  const together = async (options) => {
    const begun = async () => (await sql(stack, 'select version from storage.blobs_to_delete')).length === 6
    let gate
    const bodies = Array.from({ length: 6 }, (_, index) =>
      Readable.from(
        (async function* () {
          yield `${index}`
          await (gate ??= until(begun, 'all uploads to begin'))
          yield `${index}`.repeat(50_000)
        })(),
      ),
    )
    return Promise.all(bodies.map((body) => files.upload(at('race'), body, options)))
  }
  const outcomes = await together()
  const [winner, ...others] = outcomes.flatMap(({ error }, index) => (error ? [] : [index]))
  assert.deepEqual(others, [])
  for (const { error } of outcomes) assert.ok(!error || error.code === 'KeyAlreadyExists', error?.message)
  assert.equal(await text(files.download(at('race'))), `${winner}`.repeat(50_001))
  await sweptUp()

  for (const each of await together({ upsert: true })) must(each)
  assert.match(await text(files.download(at('race'))), /^(\d)\1{50000}$/)
  assert.equal((await rows(bucket)).length, 1)
  await sweptUp()
})

test('a bucket takes its types and sizes only', async () => {
  const { bucket, files, at } = await room({ fileSizeLimit: 1_000, allowedMimeTypes: ['image/png', 'text/*'] })
  const png = (size) => new Blob(['x'.repeat(size)], { type: 'image/png' })
  must(await files.upload(at('fits'), png(1_000)))
  const message = 'The object exceeded the maximum allowed size'
  await refused(files.upload(at('form'), png(1_001)), 'EntityTooLarge', message)
  await refused(files.upload(at('raw'), 'x'.repeat(1_001)), 'EntityTooLarge', message)
  const unknown = Readable.from(['x'.repeat(600), 'x'.repeat(600)])
  await refused(files.upload(at('stream'), unknown, { contentType: 'text/plain' }), 'EntityTooLarge', message)
  await refused(files.upload(at('gif'), new Blob(['x'], { type: 'image/gif' })), 'InvalidMimeType', 'mime type image/gif is not supported')
  await refused(files.upload(at('gif'), 'x', { contentType: 'image/gif' }), 'InvalidMimeType')
  must(await files.upload(at('.emptyFolderPlaceholder'), '', { contentType: 'application/x-placeholder' }))
  await refused(files.upload(at('x/.emptyFolderPlaceholder'), 'x'), 'EntityTooLarge')
  must(await service.storage.updateBucket(bucket, { public: false, fileSizeLimit: 10, allowedMimeTypes: null }))
  await refused(files.copy(at('fits'), at('copy')), 'EntityTooLarge')
  await sweptUp()
})

test('no file exceeds the service’s own limit, and its sender learns why', async () => {
  const { files, at } = await room()
  const large = Buffer.alloc((50 << 20) + 1)
  await refused(files.upload(at('raw'), large), 'EntityTooLarge')
  await refused(files.upload(at('form'), new Blob([large])), 'EntityTooLarge')
  await sweptUp()
})

test('only public buckets are open to the public', async () => {
  const { bucket, files, at } = await room({ public: true })
  must(await files.upload(at('a b.html'), new Blob(['<script>'], { type: 'text/html; charset=utf-8' }), { cacheControl: '60' }))
  const url = files.getPublicUrl(at('a b.html')).data.publicUrl
  const answer = await fetch(url)
  assert.equal(await answer.text(), '<script>')
  const header = (name) => answer.headers.get(name)
  assert.equal(header('content-type'), 'text/plain')
  assert.equal(header('x-content-type-options'), 'nosniff')
  assert.equal(header('cache-control'), 'max-age=60')
  assert.equal(header('x-robots-tag'), 'none')
  assert.equal(header('accept-ranges'), 'bytes')
  const saved = await fetch(files.getPublicUrl(at('a b.html'), { download: 'résumé.html' }).data.publicUrl)
  assert.equal(saved.headers.get('content-disposition'), "attachment; filename=r%C3%A9sum%C3%A9.html; filename*=UTF-8''r%C3%A9sum%C3%A9.html")
  assert.equal(await text(anon.storage.from(bucket).download(at('a b.html'))), '<script>')
  const bad = await fetch(address(`/object/${bucket}/${at('a b.html')}`), { headers: { Authorization: 'Bearer nonsense' } })
  assert.equal(bad.status, 200)
  await bad.body.cancel()

  must(await service.storage.updateBucket(bucket, { public: false }))
  for (const path of [`public/${bucket}`, bucket, `info/public/${bucket}`, `info/${bucket}`]) {
    const closed = await fetch(address(`/object/${path}/${at('a b.html')}`))
    assert.equal(closed.status, 400)
    assert.deepEqual(await closed.json(), {
      statusCode: '404', error: 'Bucket not found', message: 'Bucket not found', code: 'NoSuchBucket',
    })
  }
})

test('browsers get what changed, and only the part they ask for', async () => {
  const { files, at } = await room({ public: true })
  must(await files.upload(at('a.svg'), '<svg/>', { contentType: 'image/svg+xml' }))
  const url = files.getPublicUrl(at('a.svg')).data.publicUrl
  const get = (headers, method = 'GET') => fetch(url, { headers, method })
  const head = await get({}, 'HEAD')
  assert.deepEqual(
    ['content-length', 'content-type', 'content-security-policy'].map((name) => head.headers.get(name)),
    ['6', 'image/svg+xml', 'sandbox'],
  )
  const [etag, modified] = [head.headers.get('etag'), head.headers.get('last-modified')]
  for (const known of [{ 'if-none-match': etag }, { 'if-modified-since': modified }]) {
    const same = await get(known)
    assert.equal(same.status, 304)
    assert.equal(same.headers.get('etag'), etag)
    assert.equal(same.headers.get('cache-control'), 'max-age=3600')
  }
  assert.equal((await get({ 'if-none-match': '"other"', 'if-modified-since': modified })).status, 200)
  for (const [range, content, shown] of [
    ['bytes=1-3', 'svg', 'bytes 1-3/6'],
    ['bytes=4-', '/>', 'bytes 4-5/6'],
    ['bytes=-2', '/>', 'bytes 4-5/6'],
    ['bytes=0-99', '<svg/>', 'bytes 0-5/6'],
  ]) {
    const part = await get({ range })
    assert.deepEqual([part.status, await part.text(), part.headers.get('content-range')], [206, content, shown])
  }
  for (const range of ['bytes=6-', 'bytes=3-2', 'bytes=0-1,3-4', 'bytes=x']) {
    const none = await get({ range })
    assert.equal(none.status, 416)
    assert.equal((await none.json()).code, 'InvalidRange')
  }
  assert.equal((await get({ range: 'bytes=1-3', 'if-range': '"other"' })).status, 200)
})

test('a signed URL opens one file for a while', async () => {
  const { bucket, files, at } = await room()
  must(await files.upload(at('a b.txt'), 'secret'))
  must(await files.upload(at('b.txt'), 'other'))
  const { signedUrl } = must(await files.createSignedUrl(at('a b.txt'), 60, { download: 'x.txt' }))
  const answer = await fetch(signedUrl)
  assert.equal(await answer.text(), 'secret')
  assert.equal(answer.headers.get('cache-control'), null)
  assert.ok(Date.parse(answer.headers.get('expires')) > Date.now())
  assert.match(answer.headers.get('content-disposition'), /filename=x\.txt/)
  assert.equal((await fetch(signedUrl, { method: 'HEAD' })).headers.get('content-length'), '6')

  const many = must(await files.createSignedUrls([at('b.txt'), at('none'), at('a b.txt')], 60))
  assert.deepEqual(many.map(({ path, error }) => [path, error === null]), [[at('b.txt'), true], [at('none'), false], [at('a b.txt'), true]])
  assert.equal(await (await fetch(many[0].signedUrl)).text(), 'other')

  const code = async (url) => (await (await fetch(url)).json()).code
  assert.equal(await code(signedUrl.replace('a%20b.txt', 'b.txt')), 'InvalidSignature')
  const claims = { url: `${bucket}/${at('b.txt')}`, scope: 'download' }
  const path = address(`/object/sign/${bucket}/${at('b.txt')}`)
  assert.equal(await code(`${path}?token=${token(stack, { ...claims, exp: 1 })}`), 'InvalidJWT')
  assert.equal(await code(`${path}?token=${token(stack, { ...claims, scope: 'upload', upsert: true })}`), 'InvalidSignature')
  assert.equal(await code(`${path}?token=${token({ jwtSecret: 'x'.repeat(32) }, claims)}`), 'InvalidJWT')
  assert.equal(await code(path), 'InvalidRequest')
  await refused(files.createSignedUrl(at('b.txt'), 0), 'InvalidRequest')
  must(await files.createSignedUrl(at('b.txt'), '60'))
})

test('a signed upload URL lets anybody put one file, for the one who asked', async () => {
  const { bucket, files, at, participant } = await room()
  const { token: permission, path } = must(await files.createSignedUploadUrl(at('a.txt')))
  const others = anon.storage.from(bucket)
  await refused(others.uploadToSignedUrl(at('b.txt'), permission, 'x'), 'InvalidSignature')
  must(await others.uploadToSignedUrl(path, permission, new Blob(['x'], { type: 'text/css' })))
  assert.equal(await text(files.download(at('a.txt'))), 'x')
  await refused(others.uploadToSignedUrl(path, permission, 'y', { upsert: true }), 'KeyAlreadyExists')
  assert.equal((await rows(bucket))[0].owner_id, participant.id)
  await refused(files.createSignedUploadUrl(at('a.txt')), 'KeyAlreadyExists')
  const again = must(await files.createSignedUploadUrl(at('a.txt'), { upsert: true }))
  must(await others.uploadToSignedUrl(again.path, again.token, 'y'))
  assert.equal(await text(files.download(at('a.txt'))), 'y')
})

test('lists show one level, searched, sorted and in pages', async () => {
  const { id, files, at } = await room()
  for (const name of ['b.txt', 'a.txt', 'C.txt', 'docs/x.txt', 'docs/deep/y.txt', 'docs%_/z.txt'.replace('%', '')]) {
    must(await files.upload(at(name), name))
  }
  const names = async (path, options) => must(await files.list(path, options)).map(({ name }) => name)
  assert.deepEqual(await names(id), ['C.txt', 'a.txt', 'b.txt', 'docs', 'docs_'])
  assert.deepEqual(await names(`${id}/docs`), ['deep', 'x.txt'])
  assert.deepEqual(await names(), [id])
  assert.deepEqual(await names(id, { sortBy: { column: 'name', order: 'desc' }, limit: 2 }), ['docs_', 'docs'])
  assert.deepEqual(await names(id, { limit: 2, offset: 1 }), ['a.txt', 'b.txt'])
  assert.deepEqual(await names(id, { search: 'c' }), ['C.txt'])
  assert.deepEqual((await names(id, { sortBy: { column: 'created_at', order: 'asc' } })).slice(-3), ['b.txt', 'a.txt', 'C.txt'])
  const [folder] = must(await files.list(id, { search: 'docs', limit: 1 }))
  assert.deepEqual(folder, { name: 'docs', id: null, updated_at: null, created_at: null, last_accessed_at: null, metadata: null })
  const [file] = must(await files.list(id, { search: 'a.txt' }))
  assert.equal(file.metadata.size, 5)
  assert.deepEqual(await names('none'), [])
  assert.deepEqual(must(await anon.storage.from('no-such-bucket').list()), [])

  for (const options of [{}, { with_delimiter: true }, { sortBy: { column: 'created_at', order: 'desc' } }, { with_delimiter: true, sortBy: { column: 'updated_at', order: 'asc' } }]) {
    const seen = []
    let cursor
    do {
      const page = must(await files.listV2({ prefix: at(''), limit: 2, cursor, ...options }))
      seen.push(...page.folders, ...page.objects)
      assert.ok(page.folders.length + page.objects.length <= 2)
      cursor = page.nextCursor
      assert.equal(page.hasNext, cursor !== undefined)
    } while (cursor)
    const wanted = options.with_delimiter ? ['C.txt', 'a.txt', 'b.txt', 'docs/', 'docs_/'] : ['C.txt', 'a.txt', 'b.txt', 'docs/deep/y.txt', 'docs/x.txt', 'docs_/z.txt']
    const sorted = seen.map(({ name }) => name).sort()
    assert.deepEqual(sorted, wanted.map(at), JSON.stringify(options))
  }
  await refused(files.listV2({ cursor: 'nonsense' }), 'InvalidRequest')
})

test('files move and are copied within policies', async () => {
  const { bucket, files, at } = await room()
  const other = await room()
  const { id } = must(await files.upload(at('a.txt'), 'content', { metadata: { k: 1 }, cacheControl: '7' }))
  must(await files.upload(at('taken.txt'), 'taken'))
  assert.deepEqual(must(await files.move(at('a.txt'), at('deep/b.txt'))), { message: 'Successfully moved' })
  const moved = must(await files.info(at('deep/b.txt')))
  assert.deepEqual([moved.id, moved.metadata, moved.cacheControl], [id, { k: 1 }, 'max-age=7'])
  assert.equal(await text(files.download(at('deep/b.txt'))), 'content')
  must(await files.move(at('deep/b.txt'), at('deep/b.txt')))
  await refused(files.move(at('deep/b.txt'), at('taken.txt')), 'KeyAlreadyExists')
  await refused(files.move(at('none'), at('x')), 'NoSuchKey')
  await refused(files.move(at('deep/b.txt'), at('é')), 'InvalidKey')
  await refused(files.move(at('deep/b.txt'), at('x'), { destinationBucket: 'no-such' }), 'NoSuchBucket')

  assert.equal(must(await files.copy(at('deep/b.txt'), at('c.txt'))).path, `${bucket}/${at('c.txt')}`)
  const copied = must(await files.info(at('c.txt')))
  assert.notEqual(copied.id, id)
  assert.deepEqual(copied.metadata, { k: 1 })
  await refused(files.copy(at('deep/b.txt'), at('taken.txt')), 'KeyAlreadyExists')
  must(await files.copy(at('deep/b.txt'), at('d.txt'), { copyMetadata: false, metadata: { mimetype: 'text/css' } }))
  const own = must(await files.info(at('d.txt')))
  assert.deepEqual([own.contentType, own.metadata, own.cacheControl], ['text/css', {}, 'no-cache'])
  must(await files.remove([at('deep/b.txt')]))
  await sweptUp()
  assert.equal(await text(files.download(at('c.txt'))), 'content')

  must(await files.move(at('c.txt'), at('c.txt'), { destinationBucket: other.bucket }))
  assert.equal(await text(service.storage.from(other.bucket).download(at('c.txt'))), 'content')
  assert.deepEqual((await rows(bucket)).map(({ name }) => name), [at('d.txt'), at('taken.txt')])
})

test('files are removed, one or many, and others stay', async () => {
  const { bucket, files, at, participant } = await room()
  for (const name of ['a', 'b', 'c']) must(await files.upload(at(name), name))
  const gone = must(await files.remove([at('a'), { path: at('b'), versionId: 'any' }, at('none')]))
  assert.deepEqual(gone.map(({ name }) => name).sort(), [at('a'), at('b')])
  assert.equal(gone[0].bucket_id, bucket)
  const remove = async (name, bearer) =>
    (await fetch(address(`/object/${bucket}/${at(name)}`), { method: 'DELETE', headers: { Authorization: `Bearer ${bearer}` } })).json()
  assert.equal((await remove('c', someone().bearer)).message, 'Access denied')
  assert.deepEqual(await remove('c', participant.bearer), { message: 'Successfully deleted' })
  assert.equal((await remove('c', participant.bearer)).code, 'NoSuchKey')
  assert.equal((await files.exists(at('c'))).data, false)
  await sweptUp()
})

test('rows deleted by SQL take their bytes with them, and clients cannot', async () => {
  const { bucket, files, at } = await room()
  must(await files.upload(at('a'), 'a'))
  await assert.rejects(sql(stack, `delete from storage.objects where bucket_id = '${bucket}'`), /Direct deletion/)
  await sql(stack, `select set_config('storage.allow_delete_query', 'true', true); delete from storage.objects where bucket_id = '${bucket}'`)
  assert.equal((await files.exists(at('a'))).data, false)
  // the next deletion through the API wakes the sweep
  must(await files.remove([at('a')]))
  await sweptUp()
})

test('a bucket of thousands is emptied, and the sweep keeps up', async () => {
  const { bucket } = await room()
  await sql(
    stack,
    `insert into storage.objects (bucket_id, name, version)
     select $1, 'folder/' || n, gen_random_uuid() from generate_series(1, 3000) n`,
    [bucket],
  )
  must(await service.storage.emptyBucket(bucket))
  assert.deepEqual(await rows(bucket), [])
  await sweptUp()
})

test('strange keys are refused, never followed', async () => {
  const { bucket, participant } = await room()
  const send = async (path, options = {}) => {
    const answer = await raw(`${path}`, { authorization: `Bearer ${participant.bearer}`, ...options })
    return answer
  }
  for (const key of ['%2e%2e/%2e%2e/etc/passwd', '../../etc/passwd', 'a/..%2f..%2fb', '%C3%A9.txt', 'a%00b', 'a%23b', '%FF', 'a%25b', '%F0%9F%98%80', 'x'.repeat(1_025)]) {
    const answer = await send(`POST /storage/v1/object/${bucket}/${key}`, { body: 'x' })
    assert.match(answer, /^HTTP\/1\.1 400 /, key)
    assert.match(answer, /"code":"InvalidKey"/, key)
    const read = await send(`GET /storage/v1/object/${bucket}/${key}`)
    assert.match(read, /^HTTP\/1\.1 400 /, key)
  }
  for (const path of ['/object/public/..%2f..%2f/x', '/object/%00/x', '/object/info/a%2Fb/x']) {
    assert.match(await send(`GET /storage/v1${path}`), /"code":"(NoSuchBucket|InvalidRequest)"/, path)
  }
  assert.deepEqual(await rows(bucket), [])
})

test('bad requests get clear answers', async () => {
  const { bucket, id, participant, at } = await room()
  const bearer = { Authorization: `Bearer ${participant.bearer}` }
  const ask = async (method, path, headers, body) => {
    const answer = await fetch(address(path), { method, headers, body, duplex: 'half' })
    return [answer.status, await answer.json()]
  }
  const unauthorized = { statusCode: '403', error: 'Unauthorized', code: 'AccessDenied' }
  assert.deepEqual(await ask('GET', '/bucket', {}), [400, { ...unauthorized, message: 'Invalid Compact JWS' }])
  assert.deepEqual(await ask('GET', '/bucket', { Authorization: 'Bearer xxx' }), [400, { ...unauthorized, message: 'Invalid Compact JWS' }])
  const forged = token({ jwtSecret: 'x'.repeat(32) }, { role: 'service_role' })
  assert.deepEqual(await ask('GET', '/bucket', { Authorization: `Bearer ${forged}` }), [400, { ...unauthorized, message: 'signature verification failed' }])
  const late = token(stack, { role: 'authenticated', exp: 1 })
  assert.equal((await ask('GET', '/bucket', { Authorization: `Bearer ${late}` }))[1].message, '"exp" claim timestamp check failed')
  for (const role of ['none', 'supabase_admin', 'nobody-at-all']) {
    const odd = token(stack, { role })
    assert.equal((await ask('GET', '/bucket', { Authorization: `Bearer ${odd}` }))[1].code, 'AccessDenied', role)
  }
  const path = `/object/${bucket}/${at('x')}`
  const boundary = (text) => [{ ...bearer, 'content-type': 'multipart/form-data; boundary=b' }, text]
  for (const [status, code, ...request] of [
    [400, 'InvalidRequest', 'POST', `/object/list/${bucket}`, bearer, '{}'],
    [400, 'InvalidRequest', 'POST', `/object/list/${bucket}`, bearer, 'no json'],
    [400, 'InvalidRequest', 'POST', `/object/list/${bucket}`, bearer, '{"prefix":"a\\u0000"}'],
    [400, 'InvalidRequest', 'POST', `/object/list/${bucket}`, bearer, '{"prefix":"","sortBy":{"column":"name; drop"}}'],
    [413, 'EntityTooLarge', 'POST', `/object/list/${bucket}`, bearer, `{"prefix":"${'x'.repeat(2 << 20)}"}`],
    [400, 'InvalidRequest', 'POST', `/object/sign/${bucket}`, bearer, '{"expiresIn":1,"paths":[]}'],
    [400, 'InvalidRequest', 'POST', '/object/move', bearer, '{"bucketId":"x"}'],
    [400, 'NoSuchBucket', 'POST', '/object/no-such/x', bearer, 'x'],
    [400, 'InvalidRequest', 'POST', path, { ...bearer, 'content-type': 'multipart/form-data' }, 'x'],
    [400, 'InvalidRequest', 'POST', path, ...boundary('--b--\r\n')],
    [400, 'InvalidRequest', 'POST', path, ...boundary('--b\r\nContent-Disposition: form-data; name=""; filename="x"\r\n\r\ncut off')],
    [400, 'InvalidRequest', 'POST', path, ...boundary('--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{no\r\n--b--\r\n')],
    [400, 'InvalidRequest', 'POST', path, { ...bearer, 'x-metadata': '!' }, 'x'],
    [400, 'InvalidRequest', 'GET', '/bucket?sortColumn=secret', bearer],
    [404, 'InvalidRequest', 'PATCH', `/object/${bucket}/x`, bearer, '{}'],
    [404, 'InvalidRequest', 'GET', '/render/image/public/a/b', bearer],
    [404, undefined, 'GET', '/nope', bearer],
  ]) {
    const [seen, answer] = await ask(...request)
    assert.deepEqual([seen, answer.code], [status, code], `${request[0]} ${request[1]} ${request[3]?.slice(0, 60)} ${answer.message}`)
  }
  assert.equal((await ask('POST', `/object/list/${bucket}`, bearer, '{}'))[1].message, "body must have required property 'prefix'")
  assert.deepEqual(await rows(bucket), [])
  await sweptUp()
  assert.ok(id)
})

test('a client that hangs up in the middle leaves nothing', async () => {
  const { bucket, participant, at } = await room()
  const head = (type, length) =>
    `POST /storage/v1/object/${bucket}/${at('x')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${participant.bearer}\r\n` +
    `Content-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`
  const part = '--b\r\nContent-Disposition: form-data; name=""; filename="x"\r\n\r\n'
  for (const begun of [head('text/plain', 20 << 20), head('multipart/form-data; boundary=b', 20 << 20) + part]) {
    const socket = connect(new URL(stack.url).port, new URL(stack.url).hostname)
    socket.on('error', () => {})
    socket.write(begun)
    socket.write(Buffer.alloc(12 << 20))
    const announced = () => sql(stack, 'select version from storage.blobs_to_delete where due > now()')
    await until(async () => (await announced()).length === 1, 'the upload to begin')
    socket.destroy()
    await sweptUp()
    assert.deepEqual(await rows(bucket), [])
  }
})

test('a client still sending what was refused learns why, and its connection lives on', async () => {
  const { bucket, participant, at } = await room({ fileSizeLimit: 1_000 })
  const rest = Buffer.alloc(20 << 20)
  const { hostname, port } = new URL(stack.url)
  const socket = connect(port, hostname)
  let answers = ''
  socket.on('data', (data) => (answers += data))
  socket.write(
    `POST /storage/v1/object/${bucket}/${at('x')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${participant.bearer}\r\n` +
      `Content-Type: text/plain\r\nContent-Length: ${rest.length}\r\n\r\n`,
  )
  await until(() => answers.includes('EntityTooLarge'), 'the refusal')
  socket.write(rest)
  socket.write('GET /storage/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  await until(() => answers.includes('HTTP/1.1 200 OK'), 'the next answer')
  socket.destroy()
})

/** One request as it is, without a client's clean-up of its path. */
function raw(request, { authorization, body = '' }) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(stack.url)
    const socket = connect(port, hostname)
    let answer = ''
    socket.on('error', reject)
    socket.on('data', (data) => (answer += data))
    socket.on('end', () => resolve(answer))
    socket.write(
      `${request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ${authorization}\r\n` +
        `Content-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  })
}
