// A guest's first process that measures its network: one large file over HTTP, and many small requests, each with a connection of its
// own. With "server" as its first word it is the other side, on the host.
//
//   requests server PORT [ADDRESS]   serves /large/N (N MiB) and /small (100 bytes) on 127.0.0.1, or there
//   init                             words of the kernel's command line, as the environment: ADDRESS, GATEWAY, PORT, COUNT, MIB (200 unless
//                                    said), MODULES
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LARGE_MIB = 200, SMALL = 100 };

static char buffer[1 << 20];

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void end(const char *text) {
  printf("NETWORK failed: %s: %s\n", text, strerror(errno));
  fflush(stdout);
  if (getpid() != 1) exit(1);
  sync();
  reboot(RB_AUTOBOOT);
  for (;;) pause();
}

static void send_all(int socket, size_t count) {
  while (count > 0) {
    ssize_t sent = send(socket, buffer, count < sizeof buffer ? count : sizeof buffer, MSG_NOSIGNAL);
    if (sent <= 0) return;
    count -= (size_t)sent;
  }
}

static void serve(int port, const char *place) {
  memset(buffer, 'x', sizeof buffer);
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = inet_addr(place)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0) end("listen");
  for (;;) {
    int client = accept(listener, NULL, NULL);
    char request[1024];
    ssize_t count = recv(client, request, sizeof request - 1, 0);
    if (count > 0) {
      request[count] = 0;
      size_t size = strncmp(request, "GET /large/", 11) == 0 ? strtoul(request + 11, NULL, 10) << 20 : SMALL;
      char head[128];
      int length = snprintf(head, sizeof head, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
      send(client, head, (size_t)length, MSG_NOSIGNAL | MSG_MORE);
      send_all(client, size);
    }
    close(client);
  }
}

// Bytes behind the answer's head.
static long get(struct sockaddr_in *server, const char *path) {
  int client = socket(AF_INET, SOCK_STREAM, 0);
  if (client < 0) end("socket");
  if (connect(client, (struct sockaddr *)server, sizeof *server) != 0) end("connect");
  char request[128];
  int length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);
  if (send(client, request, (size_t)length, MSG_NOSIGNAL) != length) end("send");
  long total = 0, head = -1;
  for (;;) {
    ssize_t count = recv(client, buffer, sizeof buffer, 0);
    if (count < 0) end("recv");
    if (count == 0) break;
    if (head < 0) {
      char *body = memmem(buffer, (size_t)count, "\r\n\r\n", 4);
      if (body) head = total + (body + 4 - buffer);
    }
    total += count;
  }
  close(client);
  return head < 0 ? -1 : total - head;
}

static void insert(const char *list) {
  char names[1024], path[256];
  snprintf(names, sizeof names, "%s", list ? list : "");
  for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
    snprintf(path, sizeof path, "/modules/%s.ko", name);
    int module = open(path, O_RDONLY);
    if (module < 0) end(path);
    if (syscall(SYS_finit_module, module, "", 0) != 0 && errno != EEXIST) end(path);
    close(module);
  }
}

static void configure(const char *own, const char *gateway) {
  int any = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  ioctl(any, SIOCSIFFLAGS, &request);
  strcpy(request.ifr_name, "eth0");
  struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
  for (int i = 0; i < 500; i++) {
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = inet_addr(own);
    if (ioctl(any, SIOCSIFADDR, &request) == 0) break;
    if (i == 499) end("eth0");
    usleep(10000);
  }
  address->sin_addr.s_addr = inet_addr("255.255.255.0");
  ioctl(any, SIOCSIFNETMASK, &request);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(any, SIOCSIFFLAGS, &request) != 0) end("up");
  struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
  ((struct sockaddr_in *)&route.rt_dst)->sin_family = AF_INET;
  ((struct sockaddr_in *)&route.rt_genmask)->sin_family = AF_INET;
  ((struct sockaddr_in *)&route.rt_gateway)->sin_family = AF_INET;
  ((struct sockaddr_in *)&route.rt_gateway)->sin_addr.s_addr = inet_addr(gateway);
  if (ioctl(any, SIOCADDRT, &route) != 0) end("route");
  close(any);
}

int main(int count, char **words) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if ((count == 3 || count == 4) && strcmp(words[1], "server") == 0) serve(atoi(words[2]), count == 4 ? words[3] : "127.0.0.1");
  insert(getenv("MODULES"));
  configure(getenv("ADDRESS"), getenv("GATEWAY"));
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(getenv("PORT")))};
  server.sin_addr.s_addr = inet_addr(getenv("GATEWAY"));
  int requests = atoi(getenv("COUNT"));
  if (get(&server, "/small") != SMALL) end("small");
  double began = now();
  long mib = getenv("MIB") ? atol(getenv("MIB")) : LARGE_MIB;
  char path[64];
  snprintf(path, sizeof path, "/large/%ld", mib);
  if (get(&server, path) != mib << 20) end("large");
  printf("NETWORK large %.3f %ld\n", now() - began, mib);
  began = now();
  for (int i = 0; i < requests; i++) {
    if (get(&server, "/small") != SMALL) end("small");
  }
  printf("NETWORK small %d %.3f\n", requests, now() - began);
  sync();
  reboot(RB_AUTOBOOT);
  for (;;) pause();
}
