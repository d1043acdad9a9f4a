// What scripts/coverage prints: node coverage-table.mjs <lcov file> [--missing [file ...]]

import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

/** What the specification wants of the whole, in per cent. */
const REQUIRED = 85

const [lcov, mode, ...wanted] = process.argv.slice(2)
const files = withoutTests(read(lcov))
if (mode === '--missing') printMissing()
else printTable()

/** File → line → how often it ran. */
function read(path) {
  const files = new Map()
  let lines
  for (const entry of readFileSync(path, 'utf8').split('\n')) {
    const [kind, value] = entry.split(/:(.*)/)
    if (kind === 'SF') files.set(relative('.', value), (lines = new Map()))
    if (kind === 'DA') lines.set(...value.split(',').map(Number))
  }
  return files
}

/** Without the lines of tests: the last module of a file, or a file that is declared as such. */
function withoutTests(files) {
  for (const [file, lines] of files) {
    const source = readFileSync(file, 'utf8')
    const module = source.match(/^#\[cfg\(test\)\]\nmod (\w+)( \{|;)/m)
    if (!module) continue
    const first = source.slice(0, module.index).split('\n').length
    for (const line of [...lines.keys()]) if (line >= first) lines.delete(line)
    if (module[2] === ';') files.delete(file.replace(/[^/]+$/, `${module[1]}.rs`))
  }
  return files
}

function printTable() {
  const folders = new Map()
  const total = { all: 0, run: 0 }
  for (const [file, lines] of [...files].sort()) {
    const run = [...lines.values()].filter((count) => count > 0).length
    const folder = file.match(/^src\/(gateway\/)?[^/]+(?=\/)|^src/)[0]
    if (!folders.has(folder)) folders.set(folder, { all: 0, run: 0 })
    for (const sum of [folders.get(folder), total]) {
      sum.all += lines.size
      sum.run += run
    }
    print(file, { all: lines.size, run })
  }
  console.log()
  for (const [folder, sum] of [...folders].sort()) print(folder, sum)
  print('all', total)
  if (percent(total) < REQUIRED) {
    console.error(`fewer than ${REQUIRED} % of the lines of src ran in a test`)
    process.exitCode = 1
  }
}

function print(name, sum) {
  const share = sum.all ? `${percent(sum).toFixed(1)} %` : ''
  console.log(`${name.padEnd(52)} ${String(sum.run).padStart(5)} of ${String(sum.all).padStart(5)} ${share.padStart(8)}`)
}

function percent({ all, run }) {
  return all ? (100 * run) / all : 100
}

function printMissing() {
  for (const [file, lines] of [...files].sort()) {
    if (wanted.length && !wanted.some((each) => file.startsWith(each))) continue
    const source = readFileSync(file, 'utf8').split('\n')
    for (const [line, count] of lines) if (count === 0) console.log(`${file}:${line}: ${source[line - 1]}`)
  }
}
