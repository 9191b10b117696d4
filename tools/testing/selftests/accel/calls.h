/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every ioctl there is, with valid arguments: what the tests that ask the same
 * question of each of them go by.
 */
#ifndef ACCEL_CALLS_H
#define ACCEL_CALLS_H

#include "accel_test.h"

#define LONGEST 128
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One open file with something of everything on it. */
struct env {
	int fd;
	int eventfd;
	uint32_t buffer;
	uint32_t timeline;
	/* What the arguments of one call point to. */
	uint32_t numbers[4];
	uint64_t values[4];
	uint64_t partial[4];
	unsigned char answer[64];
};

/* A field that must be zero but for its known bits. */
struct zero {
	size_t offset;
	size_t size;
	uint64_t known;
};

enum on { ANY, EDU, MOCK };

struct call {
	const char *name;
	unsigned long cmd;
	enum on on;
	/* Valid arguments; what they need is made anew. */
	int (*fill)(struct env *env, void *arg);
	/* After a call, if it succeeded and if not. */
	void (*undo)(struct env *env, void *arg, int result);
	struct zero zero[2];
	/* A job runs even if the answer cannot be written. */
	bool keeps_job;
};

#define FLAGS(type, field, bits)                                           \
	{ offsetof(struct type, field), sizeof(((struct type *)0)->field), \
	  bits }

static inline int fill_info(struct env *env, void *arg)
{
	struct accel_info *info = arg;

	info->query = ACCEL_INFO_STATE;
	info->size = sizeof(struct accel_info_state);
	info->ptr = (uintptr_t)env->answer;
	return 0;
}

static inline int fill_buffer_create(struct env *env, void *arg)
{
	struct accel_buffer_create *create = arg;

	(void)env;
	create->size = 4096;
	return 0;
}

static inline void undo_buffer_create(struct env *env, void *arg, int result)
{
	struct accel_buffer_create *create = arg;

	if (!result)
		accel_buffer_destroy(env->fd, create->handle);
}

static inline int fill_buffer_mmap(struct env *env, void *arg)
{
	struct accel_buffer_mmap *map = arg;

	map->handle = env->buffer;
	return 0;
}

static inline int fill_buffer_destroy(struct env *env, void *arg)
{
	struct accel_handle *destroy = arg;

	return accel_buffer_create(env->fd, 4096, &destroy->handle);
}

static inline void undo_buffer_destroy(struct env *env, void *arg, int result)
{
	struct accel_handle *destroy = arg;

	if (result)
		accel_buffer_destroy(env->fd, destroy->handle);
}

static inline int fill_timeline_create(struct env *env, void *arg)
{
	(void)env;
	(void)arg;
	return 0;
}

static inline void undo_timeline_create(struct env *env, void *arg, int result)
{
	struct accel_timeline_create *create = arg;

	if (!result)
		accel_timeline_destroy(env->fd, create->handle);
}

static inline int fill_timeline_destroy(struct env *env, void *arg)
{
	struct accel_handle *destroy = arg;

	return accel_timeline_create(env->fd, &destroy->handle);
}

static inline void undo_timeline_destroy(struct env *env, void *arg, int result)
{
	struct accel_handle *destroy = arg;

	if (result)
		accel_timeline_destroy(env->fd, destroy->handle);
}

static inline int fill_timeline_wait(struct env *env, void *arg)
{
	struct accel_timeline_wait *wait = arg;

	wait->handle = env->timeline;
	return 0;
}

static inline int fill_timeline_eventfd(struct env *env, void *arg)
{
	struct accel_timeline_eventfd *event = arg;

	event->handle = env->timeline;
	event->eventfd = env->eventfd;
	return 0;
}

static inline int fill_factorial(struct env *env, void *arg)
{
	struct accel_edu_factorial *factorial = arg;

	for (size_t i = 0; i < COUNT(env->numbers); i++)
		env->numbers[i] = 3 + i;
	factorial->numbers = (uintptr_t)env->numbers;
	factorial->count = COUNT(env->numbers);
	factorial->timeline = env->timeline;
	factorial->dst = env->buffer;
	return 0;
}

static inline int fill_copy(struct env *env, void *arg)
{
	struct accel_edu_copy *copy = arg;

	copy->src = env->buffer;
	copy->dst = env->buffer;
	copy->dst_offset = 64;
	copy->size = 4;
	copy->timeline = env->timeline;
	return 0;
}

static inline int fill_add(struct env *env, void *arg)
{
	struct accel_mock_add *add = arg;

	(void)env;
	add->a = 20;
	add->b = 22;
	return 0;
}

static inline int fill_sum(struct env *env, void *arg)
{
	struct accel_mock_sum *sum = arg;

	for (size_t i = 0; i < COUNT(env->values); i++)
		env->values[i] = i;
	sum->values = (uintptr_t)env->values;
	sum->partial = (uintptr_t)env->partial;
	sum->count = COUNT(env->values);
	return 0;
}

static inline int fill_submit(struct env *env, void *arg)
{
	struct accel_mock_submit *submit = arg;

	submit->timeline = env->timeline;
	return 0;
}

static inline int fill_stall(struct env *env, void *arg)
{
	struct accel_mock_stall *stall = arg;

	stall->milliseconds = 1;
	return 0;
}

static const struct call calls[] = {
	{ "INFO",
	  ACCEL_IOCTL_INFO,
	  ANY,
	  fill_info,
	  NULL,
	  { FLAGS(accel_info, flags, 0) },
	  false },
	{ "BUFFER_CREATE",
	  ACCEL_IOCTL_BUFFER_CREATE,
	  ANY,
	  fill_buffer_create,
	  undo_buffer_create,
	  { FLAGS(accel_buffer_create, flags, 0) },
	  false },
	{ "BUFFER_MMAP",
	  ACCEL_IOCTL_BUFFER_MMAP,
	  ANY,
	  fill_buffer_mmap,
	  NULL,
	  { FLAGS(accel_buffer_mmap, flags, 0) },
	  false },
	{ "BUFFER_DESTROY",
	  ACCEL_IOCTL_BUFFER_DESTROY,
	  ANY,
	  fill_buffer_destroy,
	  undo_buffer_destroy,
	  { FLAGS(accel_handle, flags, 0) },
	  false },
	{ "TIMELINE_CREATE",
	  ACCEL_IOCTL_TIMELINE_CREATE,
	  ANY,
	  fill_timeline_create,
	  undo_timeline_create,
	  { FLAGS(accel_timeline_create, flags, 0) },
	  false },
	{ "TIMELINE_DESTROY",
	  ACCEL_IOCTL_TIMELINE_DESTROY,
	  ANY,
	  fill_timeline_destroy,
	  undo_timeline_destroy,
	  { FLAGS(accel_handle, flags, 0) },
	  false },
	{ "TIMELINE_WAIT",
	  ACCEL_IOCTL_TIMELINE_WAIT,
	  ANY,
	  fill_timeline_wait,
	  NULL,
	  { FLAGS(accel_timeline_wait, flags, 0),
	    FLAGS(accel_timeline_wait, reserved, 0) },
	  false },
	{ "TIMELINE_EVENTFD",
	  ACCEL_IOCTL_TIMELINE_EVENTFD,
	  ANY,
	  fill_timeline_eventfd,
	  NULL,
	  { FLAGS(accel_timeline_eventfd, flags, 0),
	    FLAGS(accel_timeline_eventfd, reserved, 0) },
	  false },
	{ "EDU_FACTORIAL",
	  ACCEL_EDU_IOCTL_FACTORIAL,
	  EDU,
	  fill_factorial,
	  NULL,
	  { FLAGS(accel_edu_factorial, flags, 0) },
	  true },
	{ "EDU_COPY",
	  ACCEL_EDU_IOCTL_COPY,
	  EDU,
	  fill_copy,
	  NULL,
	  { FLAGS(accel_edu_copy, flags, 0) },
	  true },
	{ "MOCK_ADD", ACCEL_MOCK_IOCTL_ADD, MOCK, fill_add, NULL, {}, false },
	{ "MOCK_SUM",
	  ACCEL_MOCK_IOCTL_SUM,
	  MOCK,
	  fill_sum,
	  NULL,
	  { FLAGS(accel_mock_sum, flags, 0) },
	  false },
	{ "MOCK_SUBMIT",
	  ACCEL_MOCK_IOCTL_SUBMIT,
	  MOCK,
	  fill_submit,
	  NULL,
	  { FLAGS(accel_mock_submit, flags, ACCEL_MOCK_SUBMIT_HOLD) },
	  false },
	{ "MOCK_STALL",
	  ACCEL_MOCK_IOCTL_STALL,
	  MOCK,
	  fill_stall,
	  NULL,
	  { FLAGS(accel_mock_stall, flags, 0) },
	  false },
};

static inline bool here(const struct call *call)
{
	return call->on == ANY || (call->on == EDU) == accel_target()->edu;
}

/* The calls that the device under test has, one after the other. */
static inline const struct call *next_call(const struct call *call)
{
	for (call = call ? call + 1 : calls; call < calls + COUNT(calls);
	     call++)
		if (here(call))
			return call;
	return NULL;
}

static inline unsigned long resized(unsigned long cmd, size_t size)
{
	return _IOC(_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd), size);
}

static inline int env_open(struct env *env)
{
	int ret;

	memset(env, 0, sizeof(*env));
	env->fd = accel_open(O_RDWR | O_CLOEXEC);
	if (env->fd < 0)
		return env->fd;
	env->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ret = accel_buffer_create(env->fd, 4096, &env->buffer);
	if (!ret)
		ret = accel_timeline_create(env->fd, &env->timeline);
	return ret;
}

static inline void env_close(struct env *env)
{
	close(env->fd);
	close(env->eventfd);
}

/* The call, and what it leaves behind undone. */
static inline int make_call(const struct call *call, struct env *env, void *arg,
			    unsigned long cmd)
{
	int ret = accel_ioctl(env->fd, cmd, arg);

	if (call->undo)
		call->undo(env, arg, ret);
	return ret;
}

#endif /* ACCEL_CALLS_H */
