// The C client (libzookeeper_mt); tools/zabratools/interop/program_suite.py starts this and describes its lines.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>
#include <zookeeper/proto.h>

enum { LONG_SESSION_MS = 60000, PATIENCE_MS = 30000, MAX_CLIENTS = 32, MAX_EVENTS = 64 };

static const char *direct, *relayed;
static jmp_buf failure;

// What the watchers of one test got, in order.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char events[MAX_EVENTS][128];
static int event_count;
static zhandle_t *clients[MAX_CLIENTS];
static int client_count;

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  printf("FAIL ");
  vprintf(format, args);
  printf("\n");
  va_end(args);
  fflush(stdout);
  longjmp(failure, 1);
}

static void ask(const char *verb, const char *text, char *answer, int size) {
  printf("%s %s\n", verb, text);
  fflush(stdout);
  if (fgets(answer, size, stdin) == NULL) exit(1);  // the supervisor has gone
  answer[strcspn(answer, "\n")] = 0;
}

static void act(const char *verb) {
  char answer[64];
  ask("DO", verb, answer, sizeof answer);
  if (strcmp(answer, "done") != 0) fail("%s: %s", verb, answer);
}

static void want(int expected, int actual, const char *what) {
  if (expected != actual) fail("%s: expected %s (%d), actual %s (%d)", what, zerror(expected), expected, zerror(actual), actual);
}

static void same(long long expected, long long actual, const char *what) {
  if (expected != actual) fail("%s: expected %lld, actual %lld", what, expected, actual);
}

static void text(const char *expected, const char *actual, const char *what) {
  if (strcmp(expected, actual) != 0) fail("%s: expected %s, actual %s", what, expected, actual);
}

static long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Waits until `holds` is not zero.
#define EVENTUALLY(holds, what)                                             \
  do {                                                                      \
    for (long end = now_ms() + PATIENCE_MS; !(holds); usleep(25000))        \
      if (now_ms() > end) fail("not within %d ms: %s", PATIENCE_MS, what);  \
  } while (0)

static void on_session(zhandle_t *z, int type, int state, const char *path, void *context) {
  (void)z, (void)type, (void)state, (void)path, (void)context;
}

// Records znode events as "name type path". Session events are left out, since every watcher gets them.
static void on_event(zhandle_t *z, int type, int state, const char *path, void *context) {
  (void)z, (void)state;
  if (type == ZOO_SESSION_EVENT) return;
  const char *name = type == ZOO_CREATED_EVENT ? "created" : type == ZOO_DELETED_EVENT ? "deleted"
    : type == ZOO_CHANGED_EVENT ? "changed" : type == ZOO_CHILD_EVENT ? "child" : "other";
  pthread_mutex_lock(&lock);
  if (event_count < MAX_EVENTS)
    snprintf(events[event_count++], sizeof events[0], "%s %s %s", (const char *)context, name, path);
  pthread_mutex_unlock(&lock);
}

static int seen(const char *event) {
  int count = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < event_count; i++) count += strcmp(events[i], event) == 0;
  pthread_mutex_unlock(&lock);
  return count;
}

static int all_seen(void) {
  pthread_mutex_lock(&lock);
  int count = event_count;
  pthread_mutex_unlock(&lock);
  return count;
}

static zhandle_t *connect_to(const char *address, int session_ms) {
  zhandle_t *z = zookeeper_init(address, on_session, session_ms, NULL, NULL, 0);
  if (z == NULL) fail("zookeeper_init failed");
  clients[client_count++] = z;
  EVENTUALLY(zoo_state(z) == ZOO_CONNECTED_STATE, "connected");
  return z;
}

static zhandle_t *client(void) { return connect_to(direct, LONG_SESSION_MS); }

static void close_client(zhandle_t *z) {
  for (int i = 0; i < client_count; i++)
    if (clients[i] == z) clients[i] = NULL;
  want(ZOK, zookeeper_close(z), "zookeeper_close");
}

static void make(zhandle_t *z, const char *path, const char *data, int mode, const char *expected) {
  char made[128];
  want(ZOK, zoo_create(z, path, data, (int)strlen(data), &ZOO_OPEN_ACL_UNSAFE, mode, made, sizeof made), path);
  text(expected, made, "created path");
}

static void basics(void) {
  zhandle_t *z = client();
  char buffer[64], made[64];
  int size = sizeof buffer;
  struct Stat stat;
  want(ZOK, zoo_create2(z, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, made, sizeof made, &stat), "create2");
  same(3, stat.dataLength, "dataLength of create2");
  want(ZOK, zoo_get(z, "/c", 0, buffer, &size, &stat), "get");
  same(3, size, "size");
  same(0, memcmp(buffer, "one", 3), "data");
  same(stat.czxid, stat.mzxid, "czxid = mzxid");
  want(ZOK, zoo_set2(z, "/c", "two!", 4, 0, &stat), "set2");
  same(1, stat.version, "version");
  make(z, "/c/kid", "", ZOO_PERSISTENT, "/c/kid");
  struct String_vector kids;
  want(ZOK, zoo_get_children2(z, "/c", 0, &kids, &stat), "get_children2");
  same(1, kids.count, "children");
  text("kid", kids.data[0], "child");
  deallocate_String_vector(&kids);
  want(ZNOTEMPTY, zoo_delete(z, "/c", -1), "delete with a child");
  want(ZBADVERSION, zoo_delete(z, "/c/kid", 4), "delete with a wrong version");
  want(ZOK, zoo_delete(z, "/c/kid", 0), "delete");
  want(ZOK, zoo_delete(z, "/c", 1), "delete");
  want(ZNONODE, zoo_exists(z, "/c", 0, &stat), "exists");
  want(ZNONODE, zoo_set(z, "/c", "", 0, -1), "set of nothing");
}

static void modes(void) {
  zhandle_t *z = client(), *other = client();
  struct Stat stat;
  char made[64];
  make(z, "/c-modes", "", ZOO_PERSISTENT, "/c-modes");
  want(ZNODEEXISTS, zoo_create(z, "/c-modes", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), "create again");
  make(z, "/c-modes/s-", "", ZOO_PERSISTENT_SEQUENTIAL, "/c-modes/s-0000000000");
  make(z, "/c-modes/e-", "", ZOO_EPHEMERAL_SEQUENTIAL, "/c-modes/e-0000000001");
  make(z, "/c-modes/e", "", ZOO_EPHEMERAL, "/c-modes/e");
  want(ZNOCHILDRENFOREPHEMERALS, zoo_create(z, "/c-modes/e/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), "child of an ephemeral");
  make(z, "/c-modes/box", "", ZOO_CONTAINER, "/c-modes/box");
  make(z, "/c-modes/box/x", "", ZOO_PERSISTENT, "/c-modes/box/x");
  want(ZOK, zoo_create_ttl(z, "/c-modes/ttl", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 300, made, sizeof made), "create_ttl");
  want(ZOK, zoo_exists(other, "/c-modes/e", 0, &stat), "exists");
  same(zoo_client_id(z)->client_id, stat.ephemeralOwner, "owner");
  EVENTUALLY(zoo_exists(z, "/c-modes/ttl", 0, &stat) == ZNONODE, "the TTL node goes");
  want(ZOK, zoo_exists(z, "/c-modes/box", 0, &stat), "the full container stays");
  want(ZOK, zoo_delete(z, "/c-modes/box/x", -1), "delete");
  EVENTUALLY(zoo_exists(z, "/c-modes/box", 0, &stat) == ZNONODE, "the emptied container goes");
  close_client(z);
  want(ZNONODE, zoo_exists(other, "/c-modes/e", 0, &stat), "the ephemeral goes with its session");
}

enum { ASYNC = 500 };
static int versions[ASYNC], answered;

static void on_stat(int rc, const struct Stat *stat, const void *data) {
  (void)data;
  pthread_mutex_lock(&lock);
  versions[answered++] = rc == ZOK ? stat->version : rc;
  pthread_mutex_unlock(&lock);
}

static void async_order(void) {
  zhandle_t *z = client();
  answered = 0;
  make(z, "/c-async", "", ZOO_PERSISTENT, "/c-async");
  for (int i = 0; i < ASYNC; i++) {
    if (i % 2 == 0) want(ZOK, zoo_aset(z, "/c-async", "x", 1, -1, on_stat, NULL), "aset");
    else want(ZOK, zoo_aexists(z, "/c-async", 0, on_stat, NULL), "aexists");
  }
  // The reply of a sync comes after everything that was sent before it.
  struct Stat stat;
  want(ZOK, zoo_exists(z, "/c-async", 0, &stat), "exists");
  EVENTUALLY(__atomic_load_n(&answered, __ATOMIC_SEQ_CST) == ASYNC, "all answers");
  for (int i = 0; i < ASYNC; i++) same(i / 2 + 1, versions[i], "version in the order of sending");
  same(ASYNC / 2, stat.version, "version at the end");
}

static void watches(void) {
  zhandle_t *z = client(), *other = client();
  struct Stat stat;
  struct String_vector kids;
  char buffer[8];
  int size = sizeof buffer;
  want(ZNONODE, zoo_wexists(z, "/c-watch", on_event, "w", &stat), "wexists");
  make(other, "/c-watch", "", ZOO_PERSISTENT, "/c-watch");
  EVENTUALLY(seen("w created /c-watch"), "created");
  want(ZOK, zoo_wget(z, "/c-watch", on_event, "data", buffer, &size, &stat), "wget");
  want(ZOK, zoo_wget_children(z, "/c-watch", on_event, "kids", &kids), "wget_children");
  deallocate_String_vector(&kids);
  make(other, "/c-watch/a", "", ZOO_PERSISTENT, "/c-watch/a");
  EVENTUALLY(seen("kids child /c-watch"), "child");
  same(0, seen("data changed /c-watch"), "data watch at a child's create");
  want(ZOK, zoo_set(other, "/c-watch", "1", 1, -1), "set");
  want(ZOK, zoo_set(other, "/c-watch", "2", 1, -1), "set");
  EVENTUALLY(seen("data changed /c-watch"), "changed");
  size = sizeof buffer;
  want(ZOK, zoo_wget(z, "/c-watch/a", on_event, "gone", buffer, &size, &stat), "wget");
  want(ZOK, zoo_delete(other, "/c-watch/a", -1), "delete");
  EVENTUALLY(seen("gone deleted /c-watch/a"), "deleted");
  same(4, all_seen(), "events, each once");
  want(ZOK, zoo_wexists(z, "/c-watch", on_event, "removed", &stat), "wexists");
  want(ZOK, zoo_remove_watches(z, "/c-watch", ZWATCHTYPE_DATA, on_event, "removed", 0), "remove_watches");
  want(ZNOWATCHER, zoo_remove_watches(z, "/c-watch", ZWATCHTYPE_DATA, on_event, "removed", 0), "remove_watches again");
  want(ZOK, zoo_set(other, "/c-watch", "3", 1, -1), "set");
  want(ZOK, zoo_exists(z, "/c-watch", 0, &stat), "exists");
  same(0, seen("removed changed /c-watch"), "events of the removed watch");
}

static void multi(void) {
  zhandle_t *z = client();
  zoo_op_t ops[5];
  zoo_op_result_t results[5];
  char first[64], second[64];
  struct Stat stat;
  zoo_create_op_init(&ops[0], "/c-multi", "1", 1, &ZOO_OPEN_ACL_UNSAFE, 0, first, sizeof first);
  zoo_create_op_init(&ops[1], "/c-multi/s-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, second, sizeof second);
  zoo_check_op_init(&ops[2], "/c-multi", 0);
  zoo_set_op_init(&ops[3], "/c-multi", "22", 2, 0, &stat);
  zoo_delete_op_init(&ops[4], "/c-multi/s-0000000000", 0);
  want(ZOK, zoo_multi(z, 5, ops, results), "multi");
  for (int i = 0; i < 5; i++) want(ZOK, results[i].err, "result");
  text("/c-multi/s-0000000000", second, "sequential path");
  same(1, stat.version, "version");
  same(stat.czxid, stat.mzxid, "one zxid for all");
  zoo_create_op_init(&ops[0], "/c-multi/no", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, first, sizeof first);
  zoo_check_op_init(&ops[1], "/c-multi", 9);
  zoo_delete_op_init(&ops[2], "/c-multi", -1);
  want(ZBADVERSION, zoo_multi(z, 3, ops, results), "failing multi");
  want(ZOK, results[0].err, "before the failing op");
  want(ZBADVERSION, results[1].err, "the failing op");
  want(ZRUNTIMEINCONSISTENCY, results[2].err, "after the failing op");
  want(ZNONODE, zoo_exists(z, "/c-multi/no", 0, &stat), "created");
}

static int auth_answer;
static void on_auth(int rc, const void *data) {
  (void)data;
  __atomic_store_n(&auth_answer, rc, __ATOMIC_SEQ_CST);
}

static void login(zhandle_t *z, const char *who) {
  __atomic_store_n(&auth_answer, 1, __ATOMIC_SEQ_CST);
  want(ZOK, zoo_add_auth(z, "digest", who, (int)strlen(who), on_auth, NULL), "add_auth");
  EVENTUALLY(__atomic_load_n(&auth_answer, __ATOMIC_SEQ_CST) != 1, "answer to add_auth");
  want(ZOK, auth_answer, "answer to add_auth");
}

static void auth(void) {
  zhandle_t *owner = client(), *stranger = client();
  struct ACL_vector acl;
  struct Stat stat;
  login(owner, "bob:secret");
  want(ZOK, zoo_create(owner, "/c-auth", "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0), "create");
  want(ZOK, zoo_get_acl(owner, "/c-auth", &acl, &stat), "get_acl");
  same(1, acl.count, "ACLs");
  text("digest", acl.data[0].id.scheme, "scheme");
  same(0, strncmp("bob:", acl.data[0].id.id, 4), "id");
  deallocate_ACL_vector(&acl);
  want(ZNOAUTH, zoo_set(stranger, "/c-auth", "", 0, -1), "a stranger");
  login(stranger, "bob:wrong");
  want(ZNOAUTH, zoo_set(stranger, "/c-auth", "", 0, -1), "a wrong password");
  login(stranger, "bob:secret");
  want(ZOK, zoo_set(stranger, "/c-auth", "", 0, -1), "the right one");
  want(ZOK, zoo_set_acl(owner, "/c-auth", 0, &ZOO_READ_ACL_UNSAFE), "set_acl");
  want(ZNOAUTH, zoo_set(owner, "/c-auth", "", 0, -1), "set of what is read-only");
}

// Has a session, an ephemeral and two watches, runs `away`, and checks that all of them are still there.
static void survives(zhandle_t *z, const char *base, const char *first, const char *second) {
  zhandle_t *other = client();
  char eph[64], buffer[8], event[128];
  int size = sizeof buffer;
  struct Stat stat;
  struct String_vector kids;
  long long id = zoo_client_id(z)->client_id;
  snprintf(eph, sizeof eph, "%s/eph", base);
  make(z, base, "", ZOO_PERSISTENT, base);
  make(z, eph, "", ZOO_EPHEMERAL, eph);
  want(ZOK, zoo_wget(z, base, on_event, "data", buffer, &size, &stat), "wget");
  want(ZOK, zoo_wget_children(z, base, on_event, "kids", &kids), "wget_children");
  deallocate_String_vector(&kids);
  act(first);
  EVENTUALLY(zoo_state(z) != ZOO_CONNECTED_STATE, "disconnected");
  act(second);
  EVENTUALLY(zoo_state(z) == ZOO_CONNECTED_STATE, "connected again");
  EVENTUALLY(zoo_state(other) == ZOO_CONNECTED_STATE, "the other connected");
  same(id, zoo_client_id(z)->client_id, "session");
  want(ZOK, zoo_exists(z, eph, 0, &stat), "ephemeral");
  same(id, stat.ephemeralOwner, "owner");
  same(0, all_seen(), "events though nothing changed");
  want(ZOK, zoo_set(other, base, "y", 1, 0), "set");
  want(ZOK, zoo_delete(z, eph, -1), "delete");
  snprintf(event, sizeof event, "data changed %s", base);
  EVENTUALLY(seen(event), event);
  snprintf(event, sizeof event, "kids child %s", base);
  EVENTUALLY(seen(event), event);
  same(2, all_seen(), "events");
}

static void cut(void) { survives(connect_to(relayed, LONG_SESSION_MS), "/c-cut", "cut", "heal"); }
static void restart(void) { survives(client(), "/c-restart", "kill", "start"); }

static void expires(void) {
  zhandle_t *z = connect_to(relayed, 2000), *other = client();
  struct Stat stat;
  make(z, "/c-expires", "", ZOO_EPHEMERAL, "/c-expires");
  want(ZOK, zoo_wexists(other, "/c-expires", on_event, "w", &stat), "wexists");
  act("cut");
  EVENTUALLY(seen("w deleted /c-expires"), "the ephemeral goes");
  act("heal");
  EVENTUALLY(zoo_state(z) == ZOO_EXPIRED_SESSION_STATE, "told of the expiry");
  want(ZINVALIDSTATE, zoo_set(z, "/", "", 0, -1), "a call of an expired session");
}

static void test(const char *name, void (*body)(void)) {
  char answer[64];
  ask("TEST", name, answer, sizeof answer);
  if (strcmp(answer, "run") != 0) return;
  event_count = 0;
  client_count = 0;
  if (setjmp(failure) == 0) {
    body();
    printf("PASS\n");
    fflush(stdout);
  }
  for (int i = 0; i < client_count; i++)
    if (clients[i] != NULL) zookeeper_close(clients[i]);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: suite HOST:PORT RELAY_HOST:PORT (started by program_suite.py)\n");
    return 2;
  }
  direct = argv[1];
  relayed = argv[2];
  zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
  test("basic.create-get-set-delete", basics);
  test("create.modes", modes);
  test("async.500-answers-in-order", async_order);
  test("watch.data-exists-children-removed", watches);
  test("multi.applied-or-not", multi);
  test("auth.digest-and-acl", auth);
  test("session.cut-connection-keeps-session-and-watches", cut);
  test("session.expires", expires);
  test("restart.kill-9-keeps-session-and-watches", restart);
  printf("DONE\n");
  return 0;
}
