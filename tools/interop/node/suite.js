'use strict';
// The Node.js client node-zookeeper-client; tools/zabratools/interop/program_suite.py starts this and describes its lines.

const assert = require('assert');
const readline = require('readline');
const zookeeper = require('node-zookeeper-client');

const { ACL, CreateMode, Event, Exception, Id, Permission, State } = zookeeper;
const [direct, relayed] = process.argv.slice(2);
const LONG_SESSION_MS = 60000;
const PATIENCE_MS = 30000;
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let open = [];

async function ask(line) {
  process.stdout.write(line + '\n');
  const { value, done } = await lines.next();
  if (done) process.exit(1); // the supervisor has gone
  return value;
}

async function doVerbs(...verbs) {
  for (const verb of verbs) assert.strictEqual(await ask('DO ' + verb), 'done');
}

async function test(name, body) {
  if (await ask('TEST ' + name) !== 'run') return;
  let problem = null;
  try {
    await body();
  } catch (e) {
    problem = String(e && e.stack || e).split('\n').slice(0, 12).join(' | ');
  }
  for (const c of open) c.close();
  open = [];
  process.stdout.write(problem === null ? 'PASS\n' : `FAIL ${problem}\n`);
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${PATIENCE_MS} ms: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function eventually(what, probe) {
  for (const end = Date.now() + PATIENCE_MS; !await probe(); await sleep(25)) {
    if (Date.now() > end) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
  }
}

async function client(address = direct, sessionTimeout = LONG_SESSION_MS) {
  const c = zookeeper.createClient(address, { sessionTimeout, spinDelay: 100, retries: 0 });
  open.push(c);
  const connected = new Promise((resolve) => c.once('connected', resolve));
  c.connect();
  await within(connected, 'connected');
  return c;
}

/** Makes a promise of a call with a callback: its result, or an array if there are several. */
function call(c, method, ...args) {
  return within(new Promise((resolve, reject) => {
    c[method](...args, (error, ...results) => {
      if (error) reject(error); else resolve(results.length > 1 ? results : results[0]);
    });
  }), method);
}

async function code(promise) {
  try {
    await promise;
    return 'OK';
  } catch (e) {
    return e.name;
  }
}

/** A watcher and the promise of its event. */
function watch() {
  const w = { seen: [] };
  w.event = new Promise((resolve) => {
    w.fn = (event) => {
      w.seen.push(event);
      resolve(event);
    };
  });
  return w;
}

async function fired(w, what) {
  const e = await within(w.event, what);
  return `${e.getName()} ${e.getPath()}`;
}

async function basics() {
  const c = await client();
  assert.strictEqual(await call(c, 'create', '/n', Buffer.from('one')), '/n');
  let [data, stat] = await call(c, 'getData', '/n');
  assert.deepStrictEqual([data.toString(), stat.version, stat.dataLength, stat.numChildren], ['one', 0, 3, 0]);
  stat = await call(c, 'setData', '/n', Buffer.from('two!'), 0);
  assert.strictEqual(stat.version, 1);
  for (const n of ['b', 'a']) await call(c, 'create', '/n/' + n);
  const [children] = await call(c, 'getChildren', '/n');
  assert.deepStrictEqual(children.sort(), ['a', 'b']);
  await call(c, 'mkdirp', '/n/x/y/z');
  assert.notStrictEqual(await call(c, 'exists', '/n/x/y/z'), null);
  for (const n of ['/n/x/y/z', '/n/x/y', '/n/x', '/n/b', '/n/a', '/n']) await call(c, 'remove', n, -1);
  assert.strictEqual(await call(c, 'exists', '/n'), null);
}

async function errors() {
  const c = await client();
  await call(c, 'create', '/err');
  await call(c, 'create', '/err/eph', CreateMode.EPHEMERAL);
  assert.deepStrictEqual([
    await code(call(c, 'create', '/err')), await code(call(c, 'getData', '/err/none')),
    await code(call(c, 'setData', '/err', Buffer.from(''), 9)), await code(call(c, 'remove', '/err', -1)),
    await code(call(c, 'create', '/err/eph/x')), await code(call(c, 'remove', '/err/eph', 9))],
  ['NODE_EXISTS', 'NO_NODE', 'BAD_VERSION', 'NOT_EMPTY', 'NO_CHILDREN_FOR_EPHEMERALS', 'BAD_VERSION']);
}

async function sequences() {
  const c = await client();
  await call(c, 'create', '/seq');
  const made = await Promise.all(Array.from({ length: 20 }, (_, i) => call(c, 'create', '/seq/n-',
    i % 2 ? CreateMode.EPHEMERAL_SEQUENTIAL : CreateMode.PERSISTENT_SEQUENTIAL)));
  assert.deepStrictEqual(made, made.map((_, i) => `/seq/n-${String(i).padStart(10, '0')}`));
}

async function ephemerals() {
  const [c, other] = [await client(), await client()];
  await call(c, 'create', '/eph', CreateMode.EPHEMERAL);
  const w = watch();
  const stat = await call(other, 'exists', '/eph', w.fn);
  assert.deepStrictEqual(stat.ephemeralOwner, c.getSessionId());
  c.close();
  assert.strictEqual(await fired(w, 'the ephemeral goes'), 'NODE_DELETED /eph');
}

async function watches() {
  const [c, other] = [await client(), await client()];
  const [made, data, kids] = [watch(), watch(), watch()];
  assert.strictEqual(await call(c, 'exists', '/watch', made.fn), null);
  await call(other, 'create', '/watch');
  assert.strictEqual(await fired(made, 'create'), 'NODE_CREATED /watch');
  await call(c, 'getData', '/watch', data.fn);
  await call(c, 'getChildren', '/watch', kids.fn);
  await call(other, 'create', '/watch/kid');
  assert.strictEqual(await fired(kids, 'child'), 'NODE_CHILDREN_CHANGED /watch');
  assert.strictEqual(data.seen.length, 0);
  for (const v of ['1', '2']) await call(other, 'setData', '/watch', Buffer.from(v));
  assert.strictEqual(await fired(data, 'set'), 'NODE_DATA_CHANGED /watch');
  await call(c, 'getData', '/watch');
  assert.strictEqual(data.seen.length, 1, 'a watch fires once');
}

async function transactions() {
  const c = await client();
  await call(c.transaction().create('/tx', Buffer.from('1')).create('/tx/s-', CreateMode.PERSISTENT_SEQUENTIAL)
    .check('/tx', 0).setData('/tx', Buffer.from('2'), 0).create('/tx/e').remove('/tx/e'), 'commit');
  const [data, stat] = await call(c, 'getData', '/tx');
  assert.deepStrictEqual([data.toString(), stat.version], ['2', 1]);
  assert.deepStrictEqual(stat.czxid, stat.mzxid, 'one zxid for all');
  const failing = c.transaction().create('/tx/a').check('/tx', 7).remove('/tx');
  assert.strictEqual(await code(call(failing, 'commit')), 'BAD_VERSION');
  assert.deepStrictEqual((await call(c, 'getChildren', '/tx'))[0], ['s-0000000000']);
}

async function acls() {
  const [owner, stranger] = [await client(), await client()];
  owner.addAuthInfo('digest', Buffer.from('bob:secret'));
  await call(owner, 'create', '/acl', ACL.CREATOR_ALL_ACL);
  assert.strictEqual(await code(call(stranger, 'getData', '/acl')), 'NO_AUTH');
  stranger.addAuthInfo('digest', Buffer.from('bob:secret'));
  await call(stranger, 'getData', '/acl');
  await call(owner, 'setACL', '/acl', [new ACL(Permission.READ, Id.ANYONE_ID_UNSAFE)], 0);
  const [got, stat] = await call(await client(), 'getACL', '/acl').catch((e) => [e.name, {}]);
  assert.deepStrictEqual([got.map((a) => [a.permission, a.id.scheme]), stat.aversion], [[[1, 'world']], 1]);
  assert.strictEqual(await code(call(owner, 'setData', '/acl', Buffer.from(''))), 'NO_AUTH');
}

async function cut() {
  const [c, other] = [await client(relayed), await client()];
  const id = c.getSessionId().toString('hex');
  await call(c, 'create', '/cut');
  await call(c, 'create', '/cut/eph', CreateMode.EPHEMERAL);
  const [data, kids] = [watch(), watch()];
  await call(c, 'getData', '/cut', data.fn);
  await call(c, 'getChildren', '/cut', kids.fn);
  await doVerbs('cut');
  await eventually('disconnected', () => c.getState() === State.DISCONNECTED);
  await call(other, 'setData', '/cut', Buffer.from('x'));
  await doVerbs('heal');
  await eventually('connected', () => c.getState() === State.SYNC_CONNECTED);
  assert.strictEqual(c.getSessionId().toString('hex'), id);
  assert.strictEqual(await fired(data, 'changed while cut'), 'NODE_DATA_CHANGED /cut');
  assert.strictEqual(kids.seen.length, 0);
  await call(other, 'create', '/cut/new');
  assert.strictEqual(await fired(kids, 'after the cut'), 'NODE_CHILDREN_CHANGED /cut');
  assert.strictEqual((await call(other, 'exists', '/cut/eph')).ephemeralOwner.toString('hex'), id);
}

async function expires() {
  const [c, other] = [await client(relayed, 2000), await client()];
  await call(c, 'create', '/expires', CreateMode.EPHEMERAL);
  const gone = watch();
  const expired = new Promise((resolve) => c.once('expired', resolve));
  await call(other, 'exists', '/expires', gone.fn);
  await doVerbs('cut');
  assert.strictEqual(await fired(gone, 'expiry'), 'NODE_DELETED /expires');
  await doVerbs('heal');
  await within(expired, 'told of the expiry');
}

async function restart() {
  // Through the relay, because a client that connects while the server starts would wait for a whole session timeout.
  const c = await client(relayed);
  const id = c.getSessionId().toString('hex');
  await call(c, 'create', '/restart', Buffer.from('x'));
  await call(c, 'create', '/restart/eph', CreateMode.EPHEMERAL);
  const w = watch();
  await call(c, 'getData', '/restart', w.fn);
  await doVerbs('cut', 'kill');
  await eventually('disconnected', () => c.getState() === State.DISCONNECTED);
  await doVerbs('start', 'heal');
  await eventually('connected', () => c.getState() === State.SYNC_CONNECTED);
  assert.strictEqual((await call(c, 'exists', '/restart/eph')).ephemeralOwner.toString('hex'), id);
  assert.strictEqual(w.seen.length, 0);
  await call(c, 'setData', '/restart', Buffer.from('y'), 0);
  assert.strictEqual(await fired(w, 'after the restart'), 'NODE_DATA_CHANGED /restart');
}

async function main() {
  assert.ok(Event && Exception);
  await test('basic.create-get-set-delete', basics);
  await test('basic.errors', errors);
  await test('create.sequential-pipelined', sequences);
  await test('create.ephemeral', ephemerals);
  await test('watch.data-exists-children', watches);
  await test('transaction.applied-or-not', transactions);
  await test('acl.digest', acls);
  await test('session.cut-connection-keeps-session-and-watches', cut);
  await test('session.expires', expires);
  await test('restart.kill-9-keeps-session-and-watches', restart);
  process.stdout.write('DONE\n');
}

main();
