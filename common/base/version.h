/* The version of all programs of this tree. */
#pragma once

#define MAILTIER_VERSION "0.1.0"
