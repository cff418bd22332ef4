/*
 * Keys for tests: known to everybody, good for nothing. The pair of RFC 8463 appendix A, and an RSA key of 2048 bits.
 */
#pragma once

/* RFC 8463 section A.1. */
#define KEY_8463_RSA_PUBLIC                                                                                  \
	"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi"           \
	"Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZy"           \
	"VYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
#define KEY_8463_ED25519_PUBLIC "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

/* Its Ed25519 secret in PKCS #8 (RFC 8410). */
static const char key_ed25519_pem[] = "-----BEGIN PRIVATE KEY-----\n"
				      "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
				      "-----END PRIVATE KEY-----\n";

static const char key_rsa_pem[] __attribute__((unused)) =
	"-----BEGIN PRIVATE KEY-----\n"
	"MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCWo+F6TXsEjbed\n"
	"meTK+xNHJIIdb1s55obtB7/zBgmh/4m7vTtriW13VQpnWHiL63VhEuKd+Iaw/eoZ\n"
	"CegS8Q0FYvaAZ9TTFxw5riqHuHXX1kbTa50pyOrcUWX7tr8aXIm0bhIS9nlUVphn\n"
	"VR7c26fY8I7uDWOvilhqJyluZ2GAjCQvSi97SODkE4iA0FIht9duu+tx/MAw0Awu\n"
	"LYNILqQAqj1v9S+oPIFvwMdJj1uIVMLFlGK/bpXgAzDTV9Uc9H8p2AcVRrWy9ycu\n"
	"xf6ckn8GtpqqminQa+jgqlEk+FmRUBrmBxu/8TM+HVnkgH9IjRn8P01c8Rj3UgKB\n"
	"usMdB6crAgMBAAECggEAOLwyUOjbm0Rw0mfCtvxHL3U9mC53kmATkzRnA/XTLPNc\n"
	"gZvsxDy3QMmDqJa2mCQvSkddmJegywpm39VOVcv51nyGUKhKjNJYbBT/qaw8nfTz\n"
	"Ke+O+szUP/RcT6htY1VU++K05fV0juIqdkil3hLQrbE0c84RLG0Tja+AODexjkMl\n"
	"yB2Diy/UBRghLyQGIciFvkDBTrDtL7wPtX3Fv7zW3/WkhmkuDBMQVLWpkKo6cOMu\n"
	"/70mOljZrsFSBdOmWoaRw95PoKyVXer35UHUNGA+x6lst2hv/GivWi9x27eKsR/h\n"
	"e/Jke0/gXj5vK+eWysyDMjKovlNjsycQwkvmSf2CMQKBgQDOMeXDErzBPwtrgJST\n"
	"ds0Qj+ktnG+97wG60Iu11ucmdoog1rjgdtiL6uxu7pRA9QGiBjQMmdkJYhk+lFRG\n"
	"lfvp3V8H9rL9lQyPmQSp+v6tF97o5ZXQEs7DjasoK1gBo/227FhmhqXWfRg2OtTg\n"
	"DS4ZUbnD5k5v27aJknxdK5/rCQKBgQC7Br6LiVFGBSHvekCF8qZpqfmmTpV7zebX\n"
	"g/h0OLJSKwDA7JrXRl7yBqj9R56Rbop2Cy4eNUaEf9/A3ajwYW/0zjA26xc1c4zr\n"
	"KAG49olCntMAqDQOL5GtaP8uK2fLMxB2gCkmRr4VvS9GQjTpr1pAo/00PanOaJZM\n"
	"RWSfHKVpkwKBgCbAj/sKoXj8PUw1/TZ9xGqRcXSGCyY6LiwLF8bUHdtHugwT7ukY\n"
	"zPf27fqnUiunIGhwHAYmP/kYe8AcJn6hn5fDaCHaBqfMBHFUg+DicEzdyKIiy/Yw\n"
	"IrX0AS/qfX7JcFyZrL+QHMjj99HxWqLFN13A01XzCdjSBUtzwXXNRh/pAoGAUYjY\n"
	"KwbbWrZEHB3k4UBu0iPbBWi+/HFAUPZkq25IN1AuDO1Zd75jCAplQ74kX+ycCmhH\n"
	"W74IFx2UU4WO7/TalRQKqvaEcLYGWkJftd4s6tFI1cF+qCyOytW6YctkfY6uf6rR\n"
	"xbETj3ChmnSkkrfylbmoWk0DqUupMmkSO9eGOWcCgYBr4O/1IFKWJ/299PlgFeO/\n"
	"IIjKNX45CoBbROUcecuNeTVUjNBb0t2D/4FWE9h08M6OBIGgYFnY9dlxPzb+nH7F\n"
	"sbqM6tnfLNWjQuPHMClnWT1HGokrdb9kIVFAmp0mWCVYHKVBUWwdA5yMhpeercVV\n"
	"uQxACyORWsoVhqDoXgcvKw==\n"
	"-----END PRIVATE KEY-----\n";

/* Of another kind: P-256. */
static const char key_ec_pem[] __attribute__((unused)) =
	"-----BEGIN PRIVATE KEY-----\n"
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdh6SrHeJfKquXZlw\n"
	"LTF9ymcvja6vqWyytixXpdllLK2hRANCAARcqobsGMUcVAqb6+bfqXjL+RGEtBgm\n"
	"7Zq+d8jml2Ey+7PU6fOm8zjR43Styi9jUmkTTv0Gcu82/vZ/MuaFtuOV\n"
	"-----END PRIVATE KEY-----\n";
