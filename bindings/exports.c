// SPDX-License-Identifier: GPL-2.0
/* Exports the core's Rust symbols and C helpers to drivers, and to nobody else. */
#include <linux/export.h>

#include "exports_generated.h"
