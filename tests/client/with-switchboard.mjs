// Runs a command beside a Switchboard of its own, which ends with it:
//
//     node with-switchboard.mjs <command> [argument ...]
//
// The command finds the names of `switchboard status -o env` in its environment, and tests find the instance through
// SWITCHBOARD_TEST_URL: one cold start for all files instead of one for each.

import { spawn } from 'node:child_process'

import { start } from './support.mjs'

const [command, ...args] = process.argv.slice(2)
if (!command) {
  console.error('which command? node with-switchboard.mjs <command> [argument ...]')
  process.exit(2)
}

const stack = await start({})
const child = spawn(command, args, {
  env: { ...process.env, ...stack.env, SWITCHBOARD_TEST_URL: stack.url },
  stdio: 'inherit',
})
process.once('exit', () => child.kill('SIGTERM'))
const code = await new Promise((resolve) => {
  child.on('exit', (code) => resolve(code ?? 1))
  child.on('error', (error) => {
    console.error(`${command}: ${error.message}`)
    resolve(127)
  })
})
await stack.stop()
process.exitCode = code
