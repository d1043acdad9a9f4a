// Runs every contract test against one Switchboard, started here: a cold start for each file would cost more than
// the tests. Files run one after the other, because the queue is one for all customers.

import { spawn } from 'node:child_process'
import { readdir } from 'node:fs/promises'

import { start } from './support.mjs'

const here = new URL('.', import.meta.url)
const named = process.argv.slice(2)
const files = named.length > 0 ? named : (await readdir(here)).filter((name) => name.endsWith('.test.mjs')).sort()

const stack = await start()
const tests = spawn(
  process.execPath,
  ['--test', '--test-concurrency=1', '--test-timeout=120000', '--test-reporter=spec', ...files],
  { cwd: here, env: { ...process.env, ...stack.env, SWITCHBOARD_TEST_URL: stack.url }, stdio: 'inherit' },
)
process.once('exit', () => tests.kill('SIGTERM'))
const failed = await new Promise((resolve) => tests.on('exit', (code) => resolve(code !== 0)))
await stack.stop()
process.exitCode = failed ? 1 : 0
