/* Data of DNS records: the first octet is the type. Names that come out are names of hosts, nothing is longer than what came in. */
#include "common/proto/dns_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_record r;
	struct arena arena;
	struct slice in;

	if (size == 0)
		return 0;
	in = slice_from(slice_of(data, size), 1);
	arena_init(&arena, 0);
	if (dns_record_parse(&arena, (enum dns_type)data[0], in, false, &r) == 0) {
		require(r.ip.len + r.name.len + r.text.len + r.data.len <= in.len);
		require(r.name.len == 0 || dns_name_is_host(r.name));
		require(r.name.len || r.type == DNS_MX || !r.name.p);
	}
	arena_deinit(&arena);
	return 0;
}
