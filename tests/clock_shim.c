/* A wall clock that a test can set, for one process and its children: LD_PRELOAD this library.
 *
 * CLOCK_SHIM names a file of eight bytes: nanoseconds, as a signed integer in the byte order of the
 * machine, which are added to every reading of the wall clock (CLOCK_REALTIME). The file is mapped
 * into memory, so a reading costs no system call more, and a change shows at once. Without it, or
 * where it is shorter, nothing is shifted. Monotonic clocks and relative waits stay as they are, as
 * when a machine's clock is set.
 *
 * Waits until a time of the wall clock are moved by the same amount. Conditions are not: those of
 * Python and of gevent wait by the monotonic clock, and which clock one has cannot be seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const volatile int64_t *offset;

__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("CLOCK_SHIM");
    struct stat status;
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    if (fstat(file, &status) == 0 && status.st_size >= (off_t)sizeof *offset) {
        void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED)
            offset = mapped;
    }
    close(file);
}

static int is_wall(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

static void shift(struct timespec *when, int64_t by)
{
    int64_t nanoseconds = when->tv_nsec + by % SECOND;
    when->tv_sec += by / SECOND;
    if (nanoseconds < 0) {
        nanoseconds += SECOND;
        when->tv_sec -= 1;
    } else if (nanoseconds >= SECOND) {
        nanoseconds -= SECOND;
        when->tv_sec += 1;
    }
    when->tv_nsec = nanoseconds;
}

static int64_t shifted_by(void)
{
    return offset ? *offset : 0;
}

/* The wall clock of this process. */
static void wall(struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = REAL(clock_gettime);
    real(CLOCK_REALTIME, now);
    shift(now, shifted_by());
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = REAL(clock_gettime);
    int failed = real(clock, now);
    if (!failed && is_wall(clock))
        shift(now, shifted_by());
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    wall(&exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *copy)
{
    struct timespec exact;
    wall(&exact);
    if (copy)
        *copy = exact.tv_sec;
    return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    if (base != TIME_UTC)
        return 0;
    wall(now);
    return base;
}

/* libev, which runs gevent's loop, asks the kernel without the C library. */
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long argument[6];
    va_list given;
    if (!real)
        real = REAL(syscall);
    va_start(given, number);
    for (int each = 0; each < 6; each++)
        argument[each] = va_arg(given, long);
    va_end(given);
    long result = real(number, argument[0], argument[1], argument[2], argument[3], argument[4],
                       argument[5]);
    if (number == SYS_clock_gettime && result == 0 && is_wall((clockid_t)argument[0]))
        shift((struct timespec *)argument[1], shifted_by());
    return result;
}

/* Waits until a time of the wall clock: that of this process, in the kernel's terms. */
static const struct timespec *unshifted(const struct timespec *until, struct timespec *copy)
{
    *copy = *until;
    shift(copy, -shifted_by());
    return copy;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *rest)
{
    struct timespec copy;
    if (is_wall(clock) && (flags & TIMER_ABSTIME))
        until = unshifted(until, &copy);
    return REAL(clock_nanosleep)(clock, flags, until, rest);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    struct timespec copy;
    return REAL(sem_timedwait)(semaphore, unshifted(until, &copy));
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict until)
{
    struct timespec copy;
    if (is_wall(clock))
        until = unshifted(until, &copy);
    return REAL(sem_clockwait)(semaphore, clock, until);
}
