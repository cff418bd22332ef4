/*
 * A stored text of any bytes: its check computes nothing and ends soon; one that it lets through has costs
 * within the caps. Cheap ones are held against a password, too.
 */
#include "common/auth/password.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice stored = slice_of(data, size);
	const char *reason = NULL;
	int error = password_stored_check(stored, &reason);

	require(reason);
	if (error)
		require(password_verify(stored, SLICE_LIT("password")) < 0);
	else if (password_is_cheap(stored))
		(void)!password_verify(stored, SLICE_LIT("password"));
	return 0;
}
