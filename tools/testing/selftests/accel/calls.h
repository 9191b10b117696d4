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
	struct accel_npu_job job;
	unsigned char answer[64];
	/* Device address that nothing was mapped at so far, less the first. */
	uint64_t mapped;
};

/* A field that must be zero but for its known bits. */
struct zero {
	size_t offset;
	size_t size;
	uint64_t known;
};

enum on { ANY, EDU, MOCK, NPU };

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
	/* The answer is another each time. */
	bool counts;
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

static inline int fill_events(struct env *env, void *arg)
{
	struct accel_events *events = arg;

	(void)env;
	events->types = 1 << ACCEL_EVENT_STATE;
	return 0;
}

static inline void undo_events(struct env *env, void *arg, int result)
{
	(void)arg;
	(void)result;
	accel_events(env->fd, 0, NULL);
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

	(void)env;
	stall->milliseconds = 1;
	return 0;
}

/* A list of commands that do nothing is mapped; its device address, or 0. */
static inline uint64_t env_list(struct env *env)
{
	struct accel_npu_map map = {
		.flags = ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_DEVICE,
		.size = 4096,
		.address = ACCEL_NPU_ADDRESS_MIN,
	};
	int ret = accel_ioctl(env->fd, ACCEL_NPU_IOCTL_MAP, &map);

	return ret && ret != -EEXIST ? 0 : map.address;
}

/* Addresses whose lower three bytes are no address, for shorter arguments. */
static inline int fill_npu_map(struct env *env, void *arg)
{
	struct accel_npu_map *map = arg;

	map->flags = ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_DEVICE;
	map->size = 4096;
	map->address = 0x40000000 + env->mapped;
	env->mapped = (env->mapped + 4096) % (1 << 21);
	return 0;
}

static inline int npu_unmap_page(struct env *env, uint64_t address)
{
	struct accel_npu_unmap unmap = { .address = address, .size = 4096 };

	return accel_ioctl(env->fd, ACCEL_NPU_IOCTL_UNMAP, &unmap);
}

static inline void undo_npu_map(struct env *env, void *arg, int result)
{
	struct accel_npu_map *map = arg;

	if (!result)
		npu_unmap_page(env, map->address);
}

static inline int fill_npu_unmap(struct env *env, void *arg)
{
	struct accel_npu_unmap *unmap = arg;
	struct accel_npu_map map = {};

	fill_npu_map(env, &map);
	unmap->address = map.address;
	unmap->size = map.size;
	return accel_ioctl(env->fd, ACCEL_NPU_IOCTL_MAP, &map);
}

static inline void undo_npu_unmap(struct env *env, void *arg, int result)
{
	struct accel_npu_unmap *unmap = arg;

	if (result)
		npu_unmap_page(env, unmap->address);
}

static inline int fill_npu_submit(struct env *env, void *arg)
{
	struct accel_npu_submit *submit = arg;

	env->job =
		(struct accel_npu_job){ .address = env_list(env), .count = 1 };
	submit->jobs = (uintptr_t)&env->job;
	submit->count = 1;
	submit->timeline = env->timeline;
	return env->job.address ? 0 : -ENOMEM;
}

static inline int fill_npu_device(struct env *env, void *arg)
{
	(void)env;
	(void)arg;
	return 0;
}

/* There is an error to be told of: a job whose list is nowhere. */
static inline int fill_npu_error(struct env *env, void *arg)
{
	struct accel_npu_job job = { .address = 1ULL << 40, .count = 1 };
	struct accel_npu_submit submit = {
		.jobs = (uintptr_t)&job,
		.count = 1,
		.timeline = env->timeline,
	};
	int ret;

	(void)arg;
	ret = accel_ioctl(env->fd, ACCEL_NPU_IOCTL_SUBMIT, &submit);
	/* One that nobody has asked for yet. */
	if (ret == -EIO)
		return 0;
	return ret ? ret :
		     accel_timeline_wait(env->fd, env->timeline, submit.point,
					 accel_now() + 5 * NSEC_PER_SEC, NULL,
					 NULL);
}

static inline int fill_later(struct env *env, void *arg)
{
	struct accel_mock_later *later = arg;

	later->timeline = env->timeline;
	return 0;
}

/* So that there are never too many. */
static inline void undo_later(struct env *env, void *arg, int result)
{
	struct accel_mock_later *later = arg;

	if (!result)
		accel_timeline_wait(env->fd, env->timeline, later->point,
				    accel_now() + 5 * NSEC_PER_SEC, NULL, NULL);
}

static inline int fill_fault(struct env *env, void *arg)
{
	struct accel_mock_fault *fault = arg;

	(void)env;
	fault->address = 4096;
	return 0;
}

/* How resets go, without asking for one. */
static inline int fill_reset(struct env *env, void *arg)
{
	(void)env;
	(void)arg;
	return 0;
}

/* How it sleeps: as it does anyway. */
static inline int fill_sleep(struct env *env, void *arg)
{
	(void)env;
	(void)arg;
	return 0;
}

static const struct call calls[] = {
	{ "INFO", ACCEL_IOCTL_INFO, ANY, fill_info, NULL,
	  .zero = { FLAGS(accel_info, flags, 0) } },
	{ "BUFFER_CREATE", ACCEL_IOCTL_BUFFER_CREATE, ANY, fill_buffer_create,
	  undo_buffer_create,
	  .zero = { FLAGS(accel_buffer_create, flags, 0) } },
	{ "BUFFER_MMAP", ACCEL_IOCTL_BUFFER_MMAP, ANY, fill_buffer_mmap, NULL,
	  .zero = { FLAGS(accel_buffer_mmap, flags, 0) } },
	{ "BUFFER_DESTROY", ACCEL_IOCTL_BUFFER_DESTROY, ANY,
	  fill_buffer_destroy, undo_buffer_destroy,
	  .zero = { FLAGS(accel_handle, flags, 0) } },
	{ "TIMELINE_CREATE", ACCEL_IOCTL_TIMELINE_CREATE, ANY,
	  fill_timeline_create, undo_timeline_create,
	  .zero = { FLAGS(accel_timeline_create, flags, 0) } },
	{ "TIMELINE_DESTROY", ACCEL_IOCTL_TIMELINE_DESTROY, ANY,
	  fill_timeline_destroy, undo_timeline_destroy,
	  .zero = { FLAGS(accel_handle, flags, 0) } },
	{ "TIMELINE_WAIT", ACCEL_IOCTL_TIMELINE_WAIT, ANY, fill_timeline_wait,
	  NULL,
	  .zero = { FLAGS(accel_timeline_wait, flags, 0),
		    FLAGS(accel_timeline_wait, reserved, 0) } },
	{ "TIMELINE_EVENTFD", ACCEL_IOCTL_TIMELINE_EVENTFD, ANY,
	  fill_timeline_eventfd, NULL,
	  .zero = { FLAGS(accel_timeline_eventfd, flags, 0),
		    FLAGS(accel_timeline_eventfd, reserved, 0) } },
	{ "EVENTS", ACCEL_IOCTL_EVENTS, ANY, fill_events, undo_events,
	  .zero = { FLAGS(accel_events, flags, 0),
		    FLAGS(accel_events, reserved, 0) } },
	{ "EDU_FACTORIAL", ACCEL_EDU_IOCTL_FACTORIAL, EDU, fill_factorial, NULL,
	  .zero = { FLAGS(accel_edu_factorial, flags, 0) }, .keeps_job = true },
	{ "EDU_COPY", ACCEL_EDU_IOCTL_COPY, EDU, fill_copy, NULL,
	  .zero = { FLAGS(accel_edu_copy, flags, 0) }, .keeps_job = true },
	{ "MOCK_ADD", ACCEL_MOCK_IOCTL_ADD, MOCK, fill_add, .undo = NULL },
	{ "MOCK_SUM", ACCEL_MOCK_IOCTL_SUM, MOCK, fill_sum, NULL,
	  .zero = { FLAGS(accel_mock_sum, flags, 0) } },
	{ "MOCK_SUBMIT", ACCEL_MOCK_IOCTL_SUBMIT, MOCK, fill_submit, NULL,
	  .zero = { FLAGS(accel_mock_submit, flags, ACCEL_MOCK_SUBMIT_HOLD) },
	  .counts = true },
	{ "MOCK_STALL", ACCEL_MOCK_IOCTL_STALL, MOCK, fill_stall, NULL,
	  .zero = { FLAGS(accel_mock_stall, flags, ACCEL_MOCK_STALL_POLITE) } },
	{ "MOCK_LATER", ACCEL_MOCK_IOCTL_LATER, MOCK, fill_later, undo_later,
	  .zero = { FLAGS(accel_mock_later, flags,
			  ACCEL_MOCK_LATER_POLL | ACCEL_MOCK_LATER_STALL |
				  ACCEL_MOCK_LATER_FAULT),
		    FLAGS(accel_mock_later, reserved, 0) },
	  .keeps_job = true },
	{ "MOCK_RESET", ACCEL_MOCK_IOCTL_RESET, MOCK, fill_reset, NULL,
	  .zero = { FLAGS(accel_mock_reset, flags,
			  ACCEL_MOCK_RESET_LOSE | ACCEL_MOCK_RESET_FAIL) } },
	{ "MOCK_FAULT", ACCEL_MOCK_IOCTL_FAULT, MOCK, fill_fault, NULL,
	  .zero = { FLAGS(accel_mock_fault, access, 1) } },
	{ "MOCK_SLEEP", ACCEL_MOCK_IOCTL_SLEEP, MOCK, fill_sleep, NULL,
	  .zero = { FLAGS(accel_mock_sleep, flags,
			  ACCEL_MOCK_SLEEP_REFUSE | ACCEL_MOCK_SLEEP_LOSE |
				  ACCEL_MOCK_SLEEP_FAIL),
		    FLAGS(accel_mock_sleep, reserved, 0) } },
	{ "NPU_MAP", ACCEL_NPU_IOCTL_MAP, NPU, fill_npu_map, undo_npu_map,
	  /* Without any known flag it is wrong: they are left alone. */
	  .zero = { { offsetof(struct accel_npu_map, flags) + 1, 3, 0 },
		    { offsetof(struct accel_npu_map, flags), 1, 7 } } },
	{ "NPU_UNMAP", ACCEL_NPU_IOCTL_UNMAP, NPU, fill_npu_unmap,
	  .undo = undo_npu_unmap },
	{ "NPU_SUBMIT", ACCEL_NPU_IOCTL_SUBMIT, NPU, fill_npu_submit, NULL,
	  .zero = { FLAGS(accel_npu_submit, flags, ACCEL_NPU_SUBMIT_DEFER) },
	  .keeps_job = true },
	{ "NPU_DEVICE", ACCEL_NPU_IOCTL_DEVICE, NPU, fill_npu_device, NULL,
	  .zero = { FLAGS(accel_npu_device, flags, 0) } },
	{ "NPU_ERROR", ACCEL_NPU_IOCTL_ERROR, NPU, fill_npu_error, NULL,
	  .zero = { FLAGS(accel_npu_error, flags, 0) }, .counts = true },
};

static inline bool here(const struct call *call)
{
	static const enum on kinds[] = {
		[ACCEL_EDU] = EDU, [ACCEL_MOCK] = MOCK, [ACCEL_NPU] = NPU
	};

	return call->on == ANY || call->on == kinds[accel_target()->kind];
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
