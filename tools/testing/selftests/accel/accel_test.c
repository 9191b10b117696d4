// SPDX-License-Identifier: GPL-2.0
/* What the tests of the accelerator subsystem share. */

#define ACCEL_TEST_PART
#include "accel_test.h"

#include <setjmp.h>

int accel_ioctl(int fd, unsigned long cmd, const void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int accel_info(int fd, uint32_t query, uint32_t index, void *answer,
	       uint32_t size)
{
	struct accel_info info = {
		.query = query,
		.index = index,
		.size = size,
		.ptr = (uintptr_t)answer,
	};

	return accel_ioctl(fd, ACCEL_IOCTL_INFO, &info);
}

int accel_buffer_create(int fd, uint64_t size, uint32_t *handle)
{
	struct accel_buffer_create create = { .size = size };
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_BUFFER_CREATE, &create);
	if (!ret)
		*handle = create.handle;
	return ret;
}

int accel_buffer_mmap(int fd, uint32_t handle, uint64_t *offset, uint64_t *size)
{
	struct accel_buffer_mmap map = { .handle = handle };
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_BUFFER_MMAP, &map);
	if (ret)
		return ret;
	*offset = map.offset;
	if (size)
		*size = map.size;
	return 0;
}

int accel_buffer_destroy(int fd, uint32_t handle)
{
	struct accel_handle destroy = { .handle = handle };

	return accel_ioctl(fd, ACCEL_IOCTL_BUFFER_DESTROY, &destroy);
}

void *accel_buffer_map(int fd, uint32_t handle, size_t size, int prot)
{
	uint64_t offset;
	void *map;
	int ret;

	ret = accel_buffer_mmap(fd, handle, &offset, NULL);
	if (ret) {
		errno = -ret;
		return NULL;
	}
	map = mmap(NULL, size, prot, MAP_SHARED, fd, offset);
	return map == MAP_FAILED ? NULL : map;
}

void *accel_buffer_new(int fd, size_t size, uint32_t *handle)
{
	int ret = accel_buffer_create(fd, size, handle);

	if (ret) {
		errno = -ret;
		return NULL;
	}
	return accel_buffer_map(fd, *handle, size, PROT_READ | PROT_WRITE);
}

int accel_timeline_create(int fd, uint32_t *handle)
{
	struct accel_timeline_create create = {};
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_CREATE, &create);
	if (!ret)
		*handle = create.handle;
	return ret;
}

int accel_timeline_destroy(int fd, uint32_t handle)
{
	struct accel_handle destroy = { .handle = handle };

	return accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_DESTROY, &destroy);
}

int accel_timeline_wait(int fd, uint32_t handle, uint64_t point,
			int64_t deadline, uint64_t *value, int32_t *status)
{
	struct accel_timeline_wait wait = {
		.handle = handle,
		.point = point,
		.deadline_ns = deadline,
		.value = ~0ULL,
		.status = 1,
	};
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_WAIT, &wait);
	if (ret)
		return ret;
	if (value)
		*value = wait.value;
	if (status)
		*status = wait.status;
	return 0;
}

int accel_timeline_eventfd(int fd, uint32_t handle, uint64_t point, int eventfd)
{
	struct accel_timeline_eventfd arg = {
		.handle = handle,
		.point = point,
		.eventfd = eventfd,
	};

	return accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_EVENTFD, &arg);
}

static int submit_edu(int fd, uint32_t timeline, uint64_t *point)
{
	uint32_t number = 3;
	struct accel_edu_factorial factorial = {
		.numbers = (uintptr_t)&number,
		.count = 1,
		.timeline = timeline,
	};
	int ret;

	ret = accel_buffer_create(fd, 4, &factorial.dst);
	if (ret)
		return ret;
	ret = accel_ioctl(fd, ACCEL_EDU_IOCTL_FACTORIAL, &factorial);
	/* The job keeps the buffer. */
	accel_buffer_destroy(fd, factorial.dst);
	if (!ret)
		*point = factorial.point;
	return ret;
}

/* Zeroed memory is a list of commands that do nothing. */
static int submit_npu(int fd, uint32_t timeline, uint32_t flags,
		      uint64_t *point)
{
	struct accel_npu_map map = {
		.flags = ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_DEVICE,
		.size = 4096,
		.address = ACCEL_NPU_ADDRESS_MIN,
	};
	struct accel_npu_job job = { .address = map.address, .count = 1 };
	struct accel_npu_submit submit = {
		.jobs = (uintptr_t)&job,
		.count = 1,
		.timeline = timeline,
		.flags = flags,
	};
	int ret;

	ret = accel_ioctl(fd, ACCEL_NPU_IOCTL_MAP, &map);
	/* It is there since the file's first job. */
	if (ret && ret != -EEXIST)
		return ret;
	ret = accel_ioctl(fd, ACCEL_NPU_IOCTL_SUBMIT, &submit);
	if (!ret)
		*point = submit.point;
	return ret;
}

int accel_submit(int fd, uint32_t timeline, uint64_t *point)
{
	struct accel_mock_submit submit = { .timeline = timeline };
	int ret;

	if (accel_target()->kind == ACCEL_EDU)
		return submit_edu(fd, timeline, point);
	if (accel_target()->kind == ACCEL_NPU)
		return submit_npu(fd, timeline, 0, point);
	ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_SUBMIT, &submit);
	if (!ret)
		*point = submit.point;
	return ret;
}

int accel_submit_held(int fd, uint32_t timeline)
{
	struct accel_mock_submit submit = {
		.timeline = timeline,
		.flags = ACCEL_MOCK_SUBMIT_HOLD,
	};
	uint64_t point;

	if (accel_target()->kind == ACCEL_NPU)
		return submit_npu(fd, timeline, ACCEL_NPU_SUBMIT_DEFER, &point);
	return accel_ioctl(fd, ACCEL_MOCK_IOCTL_SUBMIT, &submit);
}

int accel_events(int fd, uint64_t types, uint64_t *before)
{
	struct accel_events events = { .types = types };
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_EVENTS, &events);
	if (!ret && before)
		*before = events.types;
	return ret;
}

int accel_read(int fd, void *events, size_t size)
{
	ssize_t ret = read(fd, events, size);

	return ret < 0 ? -errno : ret;
}

uint64_t accel_eventfd_count(int eventfd)
{
	uint64_t count;

	if (read(eventfd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

/*
 * What it counts in the end: they are signalled soon after what they wait for.
 * Waits 10 seconds for @count, and no longer for more.
 */
uint64_t accel_eventfd_wait(int eventfd, uint64_t count)
{
	int64_t end = accel_now() + 10 * NSEC_PER_SEC;
	struct pollfd polled = { .fd = eventfd, .events = POLLIN };
	uint64_t counted = 0;

	while (counted < count && accel_now() < end) {
		poll(&polled, 1, 100);
		counted += accel_eventfd_count(eventfd);
	}
	return counted;
}

int64_t accel_fdinfo(int fd, const char *name)
{
	char path[64], line[256];
	int64_t value = -ENOENT;
	size_t length = strlen(name);
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, length) && line[length] == ':')
			value = strtoll(line + length + 1, NULL, 10);
	fclose(file);
	return value;
}

int64_t accel_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

void accel_sleep_ms(unsigned int ms)
{
	struct timespec time = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * NSEC_PER_MSEC,
	};

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

/* Of each thread: where a fault goes while it touches something. */
static __thread sigjmp_buf touch_back;
static __thread volatile sig_atomic_t touching;

static void touch_handler(int sig)
{
	if (touching)
		siglongjmp(touch_back, sig);
	/* Not ours: the fault comes again, and kills. */
	signal(sig, SIG_DFL);
}

static int touch(unsigned char *p, bool write)
{
	struct sigaction action = { .sa_handler = touch_handler };
	int sig;

	/* They stay, since other threads may be here too. */
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sig = sigsetjmp(touch_back, 1);
	if (!sig) {
		unsigned char byte;

		touching = 1;
		byte = __atomic_load_n(p, __ATOMIC_RELAXED);
		if (write)
			__atomic_store_n(p, byte, __ATOMIC_RELAXED);
	}
	touching = 0;
	return sig;
}

int accel_touch(const void *p)
{
	return touch((unsigned char *)p, false);
}

int accel_touch_write(void *p)
{
	return touch(p, true);
}

int accel_mmap_errno(int fd, size_t size, int prot, int flags, uint64_t offset)
{
	void *map = mmap(NULL, size, prot, flags, fd, offset);

	if (map == MAP_FAILED)
		return -errno;
	munmap(map, size);
	return 0;
}

int accel_read_line(const char *path, char *line, size_t size)
{
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, line, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return 0;
}

int accel_write_line(const char *path, const char *line)
{
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, line, strlen(line)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

bool accel_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static void *call_thread(void *data)
{
	struct accel_call *call = data;

	call->result = call->size ?
			       accel_read(call->fd, call->arg, call->size) :
			       accel_ioctl(call->fd, call->cmd, call->arg);
	call->ended = accel_now();
	__atomic_store_n(&call->done, true, __ATOMIC_RELEASE);
	return NULL;
}

int accel_call_start(struct accel_call *call, int fd, unsigned long cmd,
		     void *arg)
{
	memset(call, 0, sizeof(*call));
	call->fd = fd;
	call->cmd = cmd;
	call->arg = arg;
	return -pthread_create(&call->thread, NULL, call_thread, call);
}

int accel_call_read(struct accel_call *call, int fd, void *events, size_t size)
{
	memset(call, 0, sizeof(*call));
	call->fd = fd;
	call->arg = events;
	call->size = size;
	return -pthread_create(&call->thread, NULL, call_thread, call);
}

bool accel_call_wait(struct accel_call *call, unsigned int ms)
{
	int64_t until = accel_now() + ms * NSEC_PER_MSEC;

	while (!__atomic_load_n(&call->done, __ATOMIC_ACQUIRE)) {
		if (accel_now() > until)
			return false;
		accel_sleep_ms(2);
	}
	return true;
}

void accel_call_join(struct accel_call *call)
{
	pthread_join(call->thread, NULL);
}
