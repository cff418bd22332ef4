/* The operator's verb `domain dump`: all classes and domains as the commands that make them, for keeping beside a backup. */
#pragma once

#include "backend/backend.h"

void domain_dump_register(struct backend *b);
