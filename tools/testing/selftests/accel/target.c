// SPDX-License-Identifier: GPL-2.0
/* The device under test, and others: which there are, how they go and come. */

#define ACCEL_TEST_PART
#include "accel_test.h"

#include <ctype.h>
#include <dirent.h>
#include <sys/syscall.h>

static struct accel_target target;
/* Where the device hangs, kept for when it is gone. */
static char target_pci[32];

static int mock_devices(void)
{
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	dir = opendir("/sys/bus/faux/devices");
	if (!dir)
		return 1;
	while ((entry = readdir(dir)))
		if (!strncmp(entry->d_name, MOCK_DRIVER, strlen(MOCK_DRIVER)))
			count++;
	closedir(dir);
	return count;
}

static int mock_count = 1;

static const struct {
	const char *name;
	const char *driver;
} kinds[] = {
	[ACCEL_MOCK] = { "mock", MOCK_DRIVER },
	[ACCEL_EDU] = { "edu", EDU_DRIVER },
	[ACCEL_NPU] = { "npu", NPU_DRIVER },
};

static enum accel_kind kind_of(const struct accel_info_identity *id)
{
	const char *name = getenv("ACCEL_KIND");

	for (enum accel_kind kind = ACCEL_MOCK; kind <= ACCEL_NPU; kind++)
		if (name ? !strcmp(name, kinds[kind].name) :
			   !strcmp(id->driver, kinds[kind].driver))
			return kind;
	return ACCEL_MOCK;
}

/* Where the number begins in a node's path: at its end, if there is none. */
static int stem_length(const char *path)
{
	int length = strlen(path);

	while (length && isdigit((unsigned char)path[length - 1]))
		length--;
	return length;
}

/* Its nodes: those of a path that ends before the number. */
static void set_nodes(const char *path, int length, unsigned int number)
{
	char stem[sizeof(target.compute)];

	snprintf(stem, sizeof(stem), "%.*s", length, path);
	target.number = number;
	snprintf(target.compute, sizeof(target.compute), "%.40s%u", stem,
		 number);
	snprintf(target.control, sizeof(target.control), "%.40s_control%u",
		 stem, number);
}

const struct accel_target *accel_target(void)
{
	struct accel_info_identity id;
	const char *device;
	unsigned int first;
	char found[64];
	int fd, length;

	if (target.compute[0])
		return &target;
	device = getenv("ACCEL_DEVICE");
	if (!device) {
		if (accel_numbers(&first, 1) < 1)
			return NULL;
		snprintf(found, sizeof(found), "/dev/accel/accel%u", first);
		device = found;
	}
	length = stem_length(device);
	if (!device[length])
		return NULL;
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	memset(&id, 0, sizeof(id));
	if (accel_info(fd, ACCEL_INFO_IDENTITY, 0, &id, sizeof(id))) {
		close(fd);
		return NULL;
	}
	close(fd);
	target.kind = kind_of(&id);
	target.driver = kinds[target.kind].driver;
	if (target.kind != ACCEL_MOCK)
		snprintf(target_pci, sizeof(target_pci), "%.31s", id.parent);
	else
		mock_count = mock_devices();
	set_nodes(device, length, strtoul(device + length, NULL, 10));
	return &target;
}

void accel_follow(unsigned int number)
{
	set_nodes(target.compute, stem_length(target.compute), number);
}

static int open_node(const char *path, int flags)
{
	int fd = open(path, flags);

	return fd < 0 ? -errno : fd;
}

int accel_open(int flags)
{
	const struct accel_target *t = accel_target();

	return t ? open_node(t->compute, flags) : -ENODEV;
}

int accel_open_control(int flags)
{
	const struct accel_target *t = accel_target();

	return t ? open_node(t->control, flags) : -ENODEV;
}

const char *accel_class(void)
{
	return accel_exists("/sys/class/accel_core") ? "accel_core" : "accel";
}

static int compare(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return (x > y) - (x < y);
}

int accel_numbers(unsigned int *numbers, int most)
{
	unsigned int *all, number;
	struct dirent *entry;
	int count = 0;
	char path[64];
	char rest;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/class/%s", accel_class());
	dir = opendir(path);
	if (!dir)
		return -errno;
	all = calloc(65536, sizeof(*all));
	if (!all) {
		closedir(dir);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)) && count < 65536)
		if (sscanf(entry->d_name, "accel%u%c", &number, &rest) == 1)
			all[count++] = number;
	closedir(dir);
	qsort(all, count, sizeof(*all), compare);
	memcpy(numbers, all, (count < most ? count : most) * sizeof(*all));
	free(all);
	return count;
}

static int compare_address(const void *a, const void *b)
{
	return strcmp(a, b);
}

int accel_pci_find(struct accel_pci *pci)
{
	return accel_pci_find_id(pci, 0x1234, 0x11e8);
}

int accel_pci_find_id(struct accel_pci *pci, unsigned int vendor,
		      unsigned int device)
{
	char path[320], line[16];
	struct dirent *entry;
	DIR *dir;

	pci->count = 0;
	dir = opendir("/sys/bus/pci/devices");
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) && pci->count < 4) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor",
			 entry->d_name);
		if (accel_read_line(path, line, sizeof(line)) ||
		    strtoul(line, NULL, 0) != vendor)
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device",
			 entry->d_name);
		if (accel_read_line(path, line, sizeof(line)) ||
		    strtoul(line, NULL, 0) != device)
			continue;
		snprintf(pci->address[pci->count++], sizeof(pci->address[0]),
			 "%.31s", entry->d_name);
	}
	closedir(dir);
	qsort(pci->address, pci->count, sizeof(pci->address[0]),
	      compare_address);
	return pci->count;
}

static int pci_tell(const char *driver, const char *what, const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver,
		 what);
	return accel_write_line(path, address);
}

static bool pci_bound(const char *driver, const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver,
		 address);
	return accel_exists(path);
}

int accel_pci_bind(const char *address)
{
	return pci_tell(EDU_DRIVER, "bind", address);
}

int accel_pci_unbind(const char *address)
{
	return pci_tell(EDU_DRIVER, "unbind", address);
}

bool accel_pci_bound(const char *address)
{
	return pci_bound(EDU_DRIVER, address);
}

static int number_of(const char *bus, const char *device)
{
	struct dirent *entry;
	unsigned int number;
	int found = -ENODEV;
	char path[128];
	char rest;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/%s/devices/%s/%s", bus, device,
		 accel_class());
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (sscanf(entry->d_name, "accel%u%c", &number, &rest) == 1)
			found = number;
	closedir(dir);
	return found;
}

int accel_pci_number(const char *address)
{
	return number_of("pci", address);
}

/* An argument for each of up to three parameters. */
static void split(const char *parameters, char *words, char *to[4])
{
	char *rest = NULL;

	strcpy(words, parameters ? parameters : "");
	for (int i = 0; i < 3; i++)
		to[i] = strtok_r(i ? NULL : words, " ", &rest);
	to[3] = NULL;
}

int accel_modprobe(const char *module, const char *parameters)
{
	char words[128], *word[4];
	int status;
	pid_t pid;

	if (parameters && strlen(parameters) >= sizeof(words))
		return -E2BIG;
	split(parameters, words, word);

	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execlp("modprobe", "modprobe", module, word[0], word[1],
		       word[2], NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EINVAL;
}

int accel_rmmod(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK) ? -errno : 0;
}

bool accel_loaded(const char *module)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s/initstate", module);
	return accel_exists(path);
}

int accel_remove(void)
{
	if (!accel_target())
		return -ENODEV;
	if (target.kind == ACCEL_MOCK)
		return accel_rmmod(MOCK_DRIVER);
	return pci_tell(target.driver, "unbind", target_pci);
}

int accel_restore(void)
{
	char parameter[32];
	int ret = 0;

	/*
	 * The tests leave no file open; still, one that was closed a moment
	 * ago may hold the number until the kernel has got round to it.
	 */
	for (int tries = 0; tries < 20; tries++) {
		if (accel_exists(target.compute))
			return 0;
		if (target.kind != ACCEL_MOCK) {
			if (pci_bound(target.driver, target_pci))
				pci_tell(target.driver, "unbind", target_pci);
			if (!accel_loaded(target.driver))
				ret = accel_modprobe(target.driver, NULL);
			else
				ret = pci_tell(target.driver, "bind",
					       target_pci);
		} else {
			if (accel_loaded(MOCK_DRIVER))
				accel_rmmod(MOCK_DRIVER);
			snprintf(parameter, sizeof(parameter), "devices=%d",
				 mock_count);
			ret = accel_modprobe(MOCK_DRIVER, parameter);
		}
		if (accel_exists(target.compute))
			return 0;
		accel_sleep_ms(50);
	}
	return ret ? ret : -ENODEV;
}

int accel_bind(void)
{
	return pci_tell(target.driver, "bind", target_pci);
}

int accel_restore_anywhere(void)
{
	int ret;

	if (target.kind != ACCEL_MOCK) {
		ret = pci_tell(target.driver, "bind", target_pci);
		return ret ? ret : accel_pci_number(target_pci);
	}
	ret = accel_modprobe(MOCK_DRIVER, NULL);
	return ret ? ret : number_of("faux", MOCK_DRIVER ".0");
}
