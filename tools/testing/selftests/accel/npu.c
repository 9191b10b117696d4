// SPDX-License-Identifier: GPL-2.0
/* What the tests of the NPU share. */

#define ACCEL_TEST_PART
#include "npu.h"

#include <stdarg.h>

#define LIST_SIZE (NPU_LIST_COMMANDS * sizeof(struct accel_npu_command))

int npu_open(struct npu *npu)
{
	const struct accel_target *target = accel_target();

	return target ? npu_open_node(npu, target->compute) : -ENODEV;
}

int npu_open_node(struct npu *npu, const char *path)
{
	int ret;

	memset(npu, 0, sizeof(*npu));
	npu->fd = open(path, O_RDWR | O_CLOEXEC);
	if (npu->fd < 0)
		return -errno;
	ret = accel_timeline_create(npu->fd, &npu->timeline);
	if (!ret) {
		npu->list = npu_memory(npu, LIST_SIZE, NPU_LIST,
				       ACCEL_NPU_MAP_READ);
		ret = npu->list ? 0 : -errno;
	}
	if (ret)
		close(npu->fd);
	return ret;
}

void npu_close(struct npu *npu)
{
	munmap(npu->list, LIST_SIZE);
	close(npu->fd);
}

int npu_map(const struct npu *npu, uint32_t buffer, uint32_t flags,
	    uint64_t offset, uint64_t size, uint64_t address)
{
	struct accel_npu_map map = {
		.buffer = buffer,
		.flags = flags,
		.offset = offset,
		.size = size,
		.address = address,
	};

	return accel_ioctl(npu->fd, ACCEL_NPU_IOCTL_MAP, &map);
}

int npu_map_device(const struct npu *npu, uint32_t flags, uint64_t size,
		   uint64_t address)
{
	return npu_map(npu, 0, flags | ACCEL_NPU_MAP_DEVICE, 0, size, address);
}

int npu_unmap(const struct npu *npu, uint64_t address, uint64_t size)
{
	struct accel_npu_unmap unmap = { .address = address, .size = size };

	return accel_ioctl(npu->fd, ACCEL_NPU_IOCTL_UNMAP, &unmap);
}

void *npu_memory(const struct npu *npu, size_t size, uint64_t address,
		 uint32_t flags)
{
	uint32_t handle;
	void *map;
	int ret;

	map = accel_buffer_new(npu->fd, size, &handle);
	if (!map)
		return NULL;
	ret = npu_map(npu, handle, flags, 0, size, address);
	accel_buffer_destroy(npu->fd, handle);
	if (!ret)
		return map;
	munmap(map, size);
	errno = -ret;
	return NULL;
}

int npu_submit_jobs(const struct npu *npu, const struct accel_npu_job *jobs,
		    uint32_t count, uint32_t flags, uint32_t deadline_ms,
		    uint64_t *point)
{
	struct accel_npu_submit submit = {
		.jobs = (uintptr_t)jobs,
		.count = count,
		.timeline = npu->timeline,
		.flags = flags,
		.deadline_ms = deadline_ms,
	};
	int ret;

	ret = accel_ioctl(npu->fd, ACCEL_NPU_IOCTL_SUBMIT, &submit);
	if (!ret && point)
		*point = submit.point;
	return ret;
}

int npu_submit(const struct npu *npu, uint32_t first, uint32_t count,
	       uint64_t *point)
{
	struct accel_npu_job job = {
		.address = NPU_LIST + first * sizeof(struct accel_npu_command),
		.count = count,
	};

	return npu_submit_jobs(npu, &job, 1, 0, 0, point);
}

int npu_wait(const struct npu *npu, uint64_t point)
{
	int64_t until = accel_now() + NPU_JOB_MS * NSEC_PER_MSEC;
	int32_t status = 0;
	int ret;

	ret = accel_timeline_wait(npu->fd, npu->timeline, point, until, NULL,
				  &status);
	return ret ? ret : status;
}

int npu_forget(struct npu *npu)
{
	accel_timeline_destroy(npu->fd, npu->timeline);
	return accel_timeline_create(npu->fd, &npu->timeline);
}

int npu_run(const struct npu *npu, const struct accel_npu_command *commands,
	    uint32_t count)
{
	struct npu own = *npu;
	uint64_t point;
	int ret;

	memcpy(npu->list, commands, count * sizeof(*commands));
	ret = accel_timeline_create(npu->fd, &own.timeline);
	if (ret)
		return ret;
	ret = npu_submit(&own, 0, count, &point);
	if (!ret)
		ret = npu_wait(&own, point);
	accel_timeline_destroy(npu->fd, own.timeline);
	return ret;
}

int npu_run_one(const struct npu *npu, struct accel_npu_command command)
{
	return npu_run(npu, &command, 1);
}

int npu_error(const struct npu *npu, struct accel_npu_error *error)
{
	memset(error, 0, sizeof(*error));
	return accel_ioctl(npu->fd, ACCEL_NPU_IOCTL_ERROR, error);
}

int64_t npu_memory_free(const struct npu *npu)
{
	struct accel_npu_device device = {};
	int ret;

	ret = accel_ioctl(npu->fd, ACCEL_NPU_IOCTL_DEVICE, &device);
	return ret ? ret : (int64_t)device.memory_free;
}

bool npu_memory_is_back(const struct npu *npu, int64_t free)
{
	for (int tries = 0; tries < 100; tries++) {
		if (npu_memory_free(npu) == free)
			return true;
		accel_sleep_ms(20);
	}
	return false;
}

/* Zeroes times zeroes, 2^29 of them, for each job. */
int npu_submit_long(int fd, uint32_t timeline, uint32_t count)
{
	struct npu npu = { .fd = fd, .timeline = timeline };
	const uint64_t zeroes = NPU_FREE, product = NPU_FREE + MIB;
	struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };
	int ret;

	npu.list = npu_memory(&npu, 4096, NPU_LIST, ACCEL_NPU_MAP_READ);
	if (!npu.list)
		return -errno;
	npu.list[0] = npu_matmul(product, zeroes, zeroes, 1024, 512, 1024);
	munmap(npu.list, 4096);
	ret = npu_map_device(&npu, ACCEL_NPU_MAP_READ, MIB, zeroes);
	if (!ret)
		ret = npu_map_device(&npu, NPU_RW, 4 * MIB, product);
	for (uint32_t i = 0; i < count && !ret; i++)
		ret = npu_submit_jobs(&npu, &job, 1, 0, 0, NULL);
	return ret;
}

/* xorshift */
uint32_t npu_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed >> 32;
}

bool npu_all(const void *bytes, size_t size, uint8_t byte)
{
	const uint8_t *p = bytes;

	return !size || (p[0] == byte && !memcmp(p, p + 1, size - 1));
}

int npu_check(const struct npu *npu)
{
	enum { M = 5, K = 7, N = 3 };
	const uint64_t at = ACCEL_NPU_ADDRESS_END - 4096;
	static uint64_t seed = 88172645463325252ULL;
	struct accel_npu_command command =
		npu_matmul(at + 1024, at, at + 512, M, K, N);
	int8_t *a, *b;
	int32_t *d;
	void *map;
	int ret;

	map = npu_memory(npu, 4096, at, NPU_RW);
	if (!map)
		return -errno;
	a = map;
	b = a + 512;
	d = (void *)(a + 1024);
	for (int i = 0; i < M * K; i++)
		a[i] = npu_random(&seed);
	for (int i = 0; i < K * N; i++)
		b[i] = npu_random(&seed);
	for (int i = 0; i < M * N; i++)
		d[i] = npu_random(&seed);
	ret = npu_run_one(npu, command);
	for (int m = 0; m < M && !ret; m++) {
		for (int n = 0; n < N; n++) {
			int32_t sum = 0;

			for (int k = 0; k < K; k++)
				sum += a[m * K + k] * b[k * N + n];
			if (d[m * N + n] != sum)
				ret = -EBADMSG;
		}
	}
	munmap(map, 4096);
	npu_unmap(npu, at, 4096);
	return ret;
}

int npu_healthy(void)
{
	struct npu npu;
	int ret;

	ret = npu_open(&npu);
	if (ret)
		return ret;
	ret = npu_check(&npu);
	npu_close(&npu);
	return ret;
}

int npu_recovers(unsigned int ms)
{
	int64_t until = accel_now() + ms * NSEC_PER_MSEC;
	int ret;

	/*
	 * A wrong result is no sign of a device that is not ready yet, and
	 * what has failed for good will not be.
	 */
	do {
		ret = npu_healthy();
		if (!ret || ret == -EBADMSG ||
		    npu_state() == ACCEL_STATE_MALFUNCTION)
			return ret;
		accel_sleep_ms(20);
	} while (accel_now() < until);
	return ret;
}

int npu_state(void)
{
	struct accel_info_state state;
	int control, ret;

	control = accel_open_control(O_RDONLY | O_CLOEXEC);
	if (control < 0)
		return control;
	ret = accel_info(control, ACCEL_INFO_STATE, 0, &state, sizeof(state));
	close(control);
	return ret ? ret : (int)state.state;
}

size_t npu_type_size(uint32_t type)
{
	static const size_t sizes[] = {
		[ACCEL_NPU_TYPE_I8] = 1,  [ACCEL_NPU_TYPE_U8] = 1,
		[ACCEL_NPU_TYPE_I32] = 4, [ACCEL_NPU_TYPE_BF16] = 2,
		[ACCEL_NPU_TYPE_F32] = 4,
	};

	return sizes[type];
}

struct accel_npu_operand npu_tensor(uint64_t address, uint32_t type,
				    uint32_t d0, uint32_t d1, uint32_t d2,
				    uint32_t d3)
{
	const uint32_t size = npu_type_size(type);

	return (struct accel_npu_operand){
		.address = address,
		.type = type,
		.dims = { d0, d1, d2, d3 },
		.strides = { d1 * d2 * d3 * size, d2 * d3 * size, d3 * size,
			     size },
	};
}

struct accel_npu_operand npu_vector(uint64_t address, uint32_t type,
				    uint32_t count)
{
	return npu_tensor(address, type, 1, 1, 1, count);
}

struct accel_npu_command npu_nop(void)
{
	return (struct accel_npu_command){ .opcode = ACCEL_NPU_OP_NOP };
}

struct accel_npu_command npu_op(uint16_t opcode, struct accel_npu_operand d,
				struct accel_npu_operand a)
{
	return (struct accel_npu_command){
		.opcode = opcode,
		.operands = { d, a },
	};
}

struct accel_npu_command npu_copy(uint64_t to, uint64_t from, uint32_t bytes)
{
	return npu_op(ACCEL_NPU_OP_COPY,
		      npu_vector(to, ACCEL_NPU_TYPE_U8, bytes),
		      npu_vector(from, ACCEL_NPU_TYPE_U8, bytes));
}

struct accel_npu_command npu_fill(uint64_t to, uint32_t bytes, uint8_t value)
{
	return (struct accel_npu_command){
		.opcode = ACCEL_NPU_OP_FILL,
		.parameters = { value },
		.operands = { npu_vector(to, ACCEL_NPU_TYPE_U8, bytes) },
	};
}

struct accel_npu_command npu_fill32(uint64_t to, uint32_t count, uint32_t value)
{
	return (struct accel_npu_command){
		.opcode = ACCEL_NPU_OP_FILL,
		.parameters = { value },
		.operands = { npu_vector(to, ACCEL_NPU_TYPE_I32, count) },
	};
}

struct accel_npu_command npu_matmul(uint64_t d, uint64_t a, uint64_t b,
				    uint32_t m, uint32_t k, uint32_t n)
{
	return (struct accel_npu_command){
		.opcode = ACCEL_NPU_OP_MATMUL,
		.operands = { npu_tensor(d, ACCEL_NPU_TYPE_I32, 1, 1, m, n),
			      npu_tensor(a, ACCEL_NPU_TYPE_I8, 1, 1, m, k),
			      npu_tensor(b, ACCEL_NPU_TYPE_I8, 1, 1, k, n) },
	};
}

/* The port takes one opener at a time, who may be another process's end. */
static int control_open(unsigned int card)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/virtio-ports/accel.npu%u", card);
	for (int tries = 0; tries < 250; tries++) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 || errno != EBUSY)
			break;
		accel_sleep_ms(20);
	}
	return fd < 0 ? -errno : fd;
}

int npu_control_card(unsigned int card, const char *line, char *answer,
		     size_t size)
{
	char said[65536];
	size_t length = 0;
	int fd, ret = 0;

	fd = control_open(card);
	if (fd < 0)
		return fd;
	snprintf(said, sizeof(said), "%s\n", line);
	if (write(fd, said, strlen(said)) != (ssize_t)strlen(said))
		ret = -EIO;
	while (!ret && length < sizeof(said) - 1) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, 5000) != 1) {
			ret = -ETIMEDOUT;
			break;
		}
		n = read(fd, said + length, sizeof(said) - 1 - length);
		/* 0: the model has gone. */
		if (n <= 0 && errno != EAGAIN)
			ret = -EPIPE;
		else if (n > 0)
			length += n;
		if (length && said[length - 1] == '\n')
			break;
	}
	close(fd);
	said[length ? length - 1 : 0] = '\0';
	if (ret)
		return ret;
	if (strncmp(said, "ok", 2))
		return -EPROTO;
	if (answer)
		snprintf(answer, size, "%s", said + 2 + (said[2] == ' '));
	return 0;
}

int npu_control(const char *line, char *answer, size_t size)
{
	return npu_control_card(0, line, answer, size);
}

int npu_inject(const char *format, ...)
{
	char line[128];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	return npu_control(line, NULL, 0);
}

int64_t npu_stat(const char *name)
{
	char answer[1024], *word, *rest;
	const size_t length = strlen(name);
	int ret;

	ret = npu_control("stats", answer, sizeof(answer));
	if (ret)
		return ret;
	for (word = strtok_r(answer, " ", &rest); word;
	     word = strtok_r(NULL, " ", &rest))
		if (!strncmp(word, name, length) && word[length] == '=')
			return strtoll(word + length + 1, NULL, 10);
	return -ENOENT;
}

int npu_await_begun(void)
{
	int64_t until = accel_now() + NPU_JOB_MS * NSEC_PER_MSEC, left;

	while ((left = npu_stat("planned")) != 0) {
		if (left < 0)
			return left;
		if (accel_now() > until)
			return -ETIMEDOUT;
		accel_sleep_ms(1);
	}
	return 0;
}
