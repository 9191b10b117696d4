// SPDX-License-Identifier: GPL-2.0
/* Exports the core's Rust symbols and C helpers to drivers, and to nobody else. */
#include <linux/export.h>

#define ACCEL_EXPORT(sym)	extern int sym; EXPORT_SYMBOL_NS_GPL(sym, "ACCEL");
#include "exports_generated.h"
