/* Records what a process does to the files below one folder, in order and with the data.
 *
 * For LD_PRELOAD. RECORD_FOLDER is the folder, RECORD_LOG the file that is written (append-only, so that
 * what a killed process did is there). Calls are made while a lock is held, so that the order in the log
 * is an order they happened in. tests/common/lost_writes.rs reads the log:
 *
 *   entry    kind u8, file u32, a u64, b u64, then two strings or blocks, each with its length u32 first
 *   kinds    'C' a file was created      file, name
 *            'O' one that was there before was opened for the first time: file, name
 *            'W' written                 file, a: offset, data
 *            'T' its length was set      file, a: length
 *            'S' synced                  file; a folder: name
 *            'R' a sync_file_range       file
 *            'N' renamed                 from, to
 *            'U' a name was removed      name
 *            'D' a folder was made       name
 *            'X' a folder was removed    name
 *            'P' printed on standard output: data
 *            '!' a call this cannot follow: its name
 *
 * While the file RECORD_REFUSE is there, every call that would change something fails with the error number
 * in it: a disk that has become full, or read-only. RECORD_LOG may be /dev/null.
 *
 * Files are numbered as they are created or first opened: a number stands for an inode, whatever its name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 65536

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char folder[PATH_MAX];
static size_t folder_length;
static int log_file = -1;
static const char *refuse;

/* What an inode number was numbered; a number goes with the inode until the inode is gone for good. */
static struct { ino_t inode; dev_t device; } files[MOST_FILES];
static uint32_t file_count;

__attribute__((constructor)) static void begin(void) {
  const char *at = getenv("RECORD_FOLDER"), *log = getenv("RECORD_LOG");
  if (!at || !log || !realpath(at, folder)) return;
  folder_length = strlen(folder);
  refuse = getenv("RECORD_REFUSE");
  log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  unsetenv("LD_PRELOAD"); /* not for children */
}

static void entry(char kind, uint32_t file, uint64_t a, const void *first, size_t first_length, const void *second, size_t second_length) {
  if (log_file < 0) return;
  struct __attribute__((packed)) { char kind; uint32_t file; uint64_t a; uint32_t first, second; } head =
      {kind, file, a, (uint32_t)first_length, (uint32_t)second_length};
  struct iovec parts[3] = {{&head, sizeof head}, {(void *)first, first_length}, {(void *)second, second_length}};
  long done = syscall(SYS_writev, log_file, parts, 3);
  if (done != (long)(sizeof head + first_length + second_length)) abort();
}

/* Whether nothing may be changed now; errno says why. */
static int refused(void) {
  char number[16] = "";
  if (!refuse) return 0;
  int fd = syscall(SYS_openat, AT_FDCWD, refuse, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  long length = syscall(SYS_read, fd, number, sizeof number - 1);
  syscall(SYS_close, fd);
  if (length <= 0 || atoi(number) == 0) return 0;
  errno = atoi(number);
  return 1;
}

static void text(char kind, uint32_t file, const char *name) { entry(kind, file, 0, name, strlen(name), "", 0); }

/* The path below the folder, or NULL when it is elsewhere. The last part need not be there. */
static const char *below(int at, const char *path, char *whole) {
  if (log_file < 0 || !path) return NULL;
  char start[PATH_MAX];
  if (path[0] == '/') {
    if (snprintf(start, sizeof start, "%s", path) >= (int)sizeof start) return NULL;
  } else {
    char base[PATH_MAX];
    if (at == AT_FDCWD) {
      if (!getcwd(base, sizeof base)) return NULL;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", at);
      ssize_t length = readlink(link, base, sizeof base - 1);
      if (length < 0) return NULL;
      base[length] = 0;
    }
    if (snprintf(start, sizeof start, "%s/%s", base, path) >= (int)sizeof start) return NULL;
  }
  size_t length = strlen(start);
  while (length > 1 && start[length - 1] == '/') start[--length] = 0;
  char *slash = strrchr(start, '/');
  char last[NAME_MAX + 1];
  snprintf(last, sizeof last, "%s", slash + 1);
  *slash = 0;
  char parent[PATH_MAX];
  if (!realpath(start[0] ? start : "/", parent)) return NULL;
  if (snprintf(whole, PATH_MAX, "%s/%s", parent, last) >= PATH_MAX) return NULL;
  if (strcmp(whole, folder) == 0) return "";
  if (strncmp(whole, folder, folder_length) != 0 || whole[folder_length] != '/') return NULL;
  return whole + folder_length + 1;
}

/* The name of an open file or folder below the folder, or NULL. */
static const char *name_of(int fd, char *whole) {
  if (log_file < 0) return NULL;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, whole, PATH_MAX - 1);
  if (length < 0) return NULL;
  whole[length] = 0;
  if (strcmp(whole, folder) == 0) return "";
  if (strncmp(whole, folder, folder_length) != 0 || whole[folder_length] != '/') return NULL;
  return whole + folder_length + 1;
}

/* The number of an open regular file below the folder, or -1. */
static int64_t number_of(int fd) {
  char whole[PATH_MAX];
  if (!name_of(fd, whole)) return -1;
  struct stat found;
  if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) return -1;
  for (uint32_t number = file_count; number-- > 0;)
    if (files[number].inode == found.st_ino && files[number].device == found.st_dev) return number;
  return -1;
}

static uint32_t numbered(int fd) {
  struct stat found;
  if (fstat(fd, &found) != 0 || file_count == MOST_FILES) abort();
  files[file_count].inode = found.st_ino;
  files[file_count].device = found.st_dev;
  return file_count++;
}

/* Once no name leads to it its inode may be given again. */
static void forget(const char *path) {
  struct stat found;
  if (lstat(path, &found) != 0 || found.st_nlink != 1) return;
  for (uint32_t number = 0; number < file_count; number++)
    if (files[number].inode == found.st_ino && files[number].device == found.st_dev) files[number].inode = 0;
}

static int opened(int at, const char *path, int flags, mode_t mode) {
  char whole[PATH_MAX];
  pthread_mutex_lock(&lock);
  const char *name = below(at, path, whole);
  struct stat before;
  int there = name && lstat(whole, &before) == 0;
  int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
  int fd = name && changes && refused() ? -1 : syscall(SYS_openat, at, path, flags | O_LARGEFILE, mode);
  int failed = errno;
  if (fd >= 0 && name) {
    if (!there) text('C', numbered(fd), name);
    else if (S_ISREG(before.st_mode) && number_of(fd) < 0) text('O', numbered(fd), name);
    else if (S_ISREG(before.st_mode) && (flags & O_TRUNC) && before.st_size > 0) entry('T', number_of(fd), 0, "", 0, "", 0);
  }
  pthread_mutex_unlock(&lock);
  errno = failed;
  return fd;
}

#define MODE(flags, mode, last)                          \
  mode_t mode = 0;                                       \
  if ((flags) & (O_CREAT | O_TMPFILE)) {                 \
    va_list more;                                        \
    va_start(more, last);                                \
    mode = va_arg(more, mode_t);                         \
    va_end(more);                                        \
  }

int open(const char *path, int flags, ...) { MODE(flags, mode, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode, flags) return opened(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static void wrote(int fd, int64_t number, const void *data, ssize_t length, off_t offset) {
  (void)fd;
  if (number >= 0 && length > 0) entry('W', number, offset, data, length, "", 0);
}

ssize_t write(int fd, const void *data, size_t length) {
  pthread_mutex_lock(&lock);
  int64_t number = number_of(fd);
  if (fd == STDOUT_FILENO) entry('P', 0, 0, data, length, "", 0);
  ssize_t done = number >= 0 && refused() ? -1 : syscall(SYS_write, fd, data, length);
  int failed = errno;
  if (number >= 0 && done > 0) wrote(fd, number, data, done, lseek(fd, 0, SEEK_CUR) - done);
  pthread_mutex_unlock(&lock);
  errno = failed;
  return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  pthread_mutex_lock(&lock);
  int64_t number = number_of(fd);
  ssize_t done = number >= 0 && refused() ? -1 : syscall(SYS_writev, fd, parts, count);
  int failed = errno;
  if (number >= 0 && done > 0) {
    off_t at = lseek(fd, 0, SEEK_CUR) - done;
    size_t left = done;
    for (int part = 0; part < count && left > 0; part++) {
      size_t length = parts[part].iov_len < left ? parts[part].iov_len : left;
      wrote(fd, number, parts[part].iov_base, length, at);
      at += length;
      left -= length;
    }
  }
  pthread_mutex_unlock(&lock);
  errno = failed;
  return done;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  pthread_mutex_lock(&lock);
  int64_t number = number_of(fd);
  ssize_t done = number >= 0 && refused() ? -1 : syscall(SYS_pwrite64, fd, data, length, offset);
  int failed = errno;
  wrote(fd, number, data, done, offset);
  pthread_mutex_unlock(&lock);
  errno = failed;
  return done;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

int ftruncate64(int fd, off64_t length) {
  pthread_mutex_lock(&lock);
  int64_t number = number_of(fd);
  int outcome = number >= 0 && refused() ? -1 : syscall(SYS_ftruncate, fd, length);
  int failed = errno;
  if (outcome == 0 && number >= 0) entry('T', number, length, "", 0, "", 0);
  pthread_mutex_unlock(&lock);
  errno = failed;
  return outcome;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int synced(int fd, long call) {
  char whole[PATH_MAX];
  pthread_mutex_lock(&lock);
  int outcome = syscall(call, fd);
  int failed = errno;
  const char *name = name_of(fd, whole);
  if (outcome == 0 && name) {
    int64_t number = number_of(fd);
    struct stat found;
    if (number >= 0) entry('S', number, 0, "", 0, "f", 1);
    else if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode)) entry('S', 0, 0, name, strlen(name), "d", 1);
  }
  pthread_mutex_unlock(&lock);
  errno = failed;
  return outcome;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
  pthread_mutex_lock(&lock);
  int64_t number = number_of(fd);
  int outcome = syscall(SYS_sync_file_range, fd, offset, length, flags);
  int failed = errno;
  uint64_t bytes = length;
  if (number >= 0) entry('R', number, offset, &bytes, sizeof bytes, "", 0);
  pthread_mutex_unlock(&lock);
  errno = failed;
  return outcome;
}

static int renamed(int from_at, const char *from, int to_at, const char *to) {
  char whole_from[PATH_MAX], whole_to[PATH_MAX];
  pthread_mutex_lock(&lock);
  const char *name_from = below(from_at, from, whole_from), *name_to = below(to_at, to, whole_to);
  int no = name_from && refused();
  if (!no && name_from && name_to) forget(whole_to);
  int outcome = no ? -1 : syscall(SYS_renameat2, from_at, from, to_at, to, 0);
  int failed = errno;
  if (outcome == 0 && name_from && name_to) entry('N', 0, 0, name_from, strlen(name_from), name_to, strlen(name_to));
  else if (outcome == 0 && (name_from || name_to)) text('!', 0, "rename into or out of the folder");
  pthread_mutex_unlock(&lock);
  errno = failed;
  return outcome;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return renamed(from_at, from, to_at, to); }

static int removed(int at, const char *path, int flags) {
  char whole[PATH_MAX];
  pthread_mutex_lock(&lock);
  const char *name = below(at, path, whole);
  int no = name && refused();
  if (!no && name && !(flags & AT_REMOVEDIR)) forget(whole);
  int outcome = no ? -1 : syscall(SYS_unlinkat, at, path, flags);
  int failed = errno;
  if (outcome == 0 && name) text(flags & AT_REMOVEDIR ? 'X' : 'U', 0, name);
  pthread_mutex_unlock(&lock);
  errno = failed;
  return outcome;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int at, const char *path, mode_t mode) {
  char whole[PATH_MAX];
  pthread_mutex_lock(&lock);
  const char *name = below(at, path, whole);
  int outcome = name && refused() ? -1 : syscall(SYS_mkdirat, at, path, mode);
  int failed = errno;
  if (outcome == 0 && name) text('D', 0, name);
  pthread_mutex_unlock(&lock);
  errno = failed;
  return outcome;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return made(at, path, mode); }

/* What would write behind the recorder's back is said, not missed. */
static void unfollowed(int fd, const char *call) {
  pthread_mutex_lock(&lock);
  if (number_of(fd) >= 0) text('!', 0, call);
  pthread_mutex_unlock(&lock);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset) {
  if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) unfollowed(fd, "a shared writable mmap");
  return (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) { return mmap64(at, length, protection, flags, fd, offset); }

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  unfollowed(fd, "fallocate");
  return syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  unfollowed(fd, "pwritev");
  return syscall(SYS_pwritev, fd, parts, count, offset, 0);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
  unfollowed(to, "copy_file_range");
  return syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
  char whole[PATH_MAX];
  pthread_mutex_lock(&lock);
  if (below(to_at, to, whole)) text('!', 0, "a hard link");
  pthread_mutex_unlock(&lock);
  return syscall(SYS_linkat, from_at, from, to_at, to, flags);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
