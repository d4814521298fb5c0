// A server of HTTPS that OpenSSL is linked into.
//
// static_openssl KEY CERTIFICATE: prints its port, then the first line of each request, all of which get five bytes.
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

static void serve(SSL *ssl) {
    char head[8192];
    int have = 0, got;
    while ((got = SSL_read(ssl, head + have, (int)sizeof head - 1 - have)) > 0) {
        have += got;
        head[have] = 0;
        if (strstr(head, "\r\n\r\n") == NULL) continue;
        printf("%.*s\n", (int)strcspn(head, "\r"), head);
        fflush(stdout);
        if (SSL_write(ssl, ANSWER, sizeof ANSWER - 1) <= 0) return;
        have = 0;
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_PrivateKey_file(context, arguments[1], SSL_FILETYPE_PEM) != 1) return 3;
    if (SSL_CTX_use_certificate_file(context, arguments[2], SSL_FILETYPE_PEM) != 1) return 4;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listening, (struct sockaddr *)&address, len) != 0 || listen(listening, 16) != 0) return 5;
    getsockname(listening, (struct sockaddr *)&address, &len);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int connection = accept(listening, NULL, NULL);
        SSL *ssl = SSL_new(context);
        SSL_set_fd(ssl, connection);
        if (SSL_accept(ssl) == 1) serve(ssl);
        SSL_free(ssl);
        close(connection);
    }
}
