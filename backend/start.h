/* Start, reload, drain and end of the program. Main thread. */
#pragma once

#include "backend/backend.h"

/* Starts all that the configuration names; ends the program with the reason on standard error where it
 * cannot. */
void start_all(struct backend *b, struct conf *conf_take);
/* Until told to end, then ends everything in order. */
void start_run(struct backend *b);
