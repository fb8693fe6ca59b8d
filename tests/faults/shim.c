/* Makes writes and syncs of a process fail, on request: see shim.py.
 *
 * Preloaded (LD_PRELOAD). SHIM_CONTROL names a file that is read at every call; each of its lines is
 *     <write|sync> <errno> <part of the path, or with $ its end>
 * A call on a matching path fails with that errno, and a line in the file that SHIM_LOG names says so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static ssize_t put(int fd, const char *text, size_t length) { return syscall(SYS_write, fd, text, length); }

static void say(const char *kind, int error, const char *path) {
    const char *log = getenv("SHIM_LOG");
    char line[5000];
    int fd, length;
    if (!log) return;
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    length = snprintf(line, sizeof line, "%s %d %s\n", kind, error, path);
    put(fd, line, (size_t)length);
    close(fd);
}

/* Whether the path has the part; a part that ends with $ must be the path's end. */
static int matches(const char *path, char *part) {
    size_t length = strlen(part), whole = strlen(path);
    if (length == 0 || part[length - 1] != '$') return strstr(path, part) != NULL;
    part[--length] = 0;
    return whole >= length && strcmp(path + whole - length, part) == 0;
}

/* The errno with which a call of this kind on this file shall fail, or 0. */
static int fault(const char *kind, int fd) {
    const char *control = getenv("SHIM_CONTROL");
    char link[64], path[4096], text[4096], *line, *rest;
    ssize_t length;
    int saved = errno, handle;
    if (!control) return 0;
    handle = open(control, O_RDONLY | O_CLOEXEC);
    if (handle < 0) { errno = saved; return 0; }
    length = read(handle, text, sizeof text - 1);
    close(handle);
    text[length > 0 ? length : 0] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    errno = saved;
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char wanted[16], part[1024];
        int error;
        if (sscanf(line, "%15s %d %1023s", wanted, &error, part) != 3) continue;
        if (strcmp(wanted, kind) == 0 && matches(path, part)) {
            say(kind, error, path);
            return error;
        }
    }
    return 0;
}

#define FAIL(kind, fd) \
    do { int error = fault(kind, fd); if (error) { errno = error; return -1; } } while (0)
#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

int fsync(int fd) { FAIL("sync", fd); return REAL(int (*)(int), "fsync")(fd); }
int fdatasync(int fd) { FAIL("sync", fd); return REAL(int (*)(int), "fdatasync")(fd); }

ssize_t write(int fd, const void *data, size_t length) {
    FAIL("write", fd);
    return put(fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    FAIL("write", fd);
    return REAL(ssize_t (*)(int, const void *, size_t, off_t), "pwrite")(fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    FAIL("write", fd);
    return REAL(ssize_t (*)(int, const void *, size_t, off64_t), "pwrite64")(fd, data, length, at);
}
