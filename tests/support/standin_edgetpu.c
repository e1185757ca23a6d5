/* A stand-in for libedgetpu: the functions of edgetpu_c.h and of TFLite's external delegate interface, with one behaviour each, chosen by
 * macros (tests/support/standin_delegates.py). The structures are those of TFLite's common.h, as far as they are used here. */

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DEVICES
#define DEVICES 1
#endif
#ifndef RUNTIME
#define RUNTIME 14
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifndef HANG
#define HANG 0
#endif
#ifndef LEAVE
#define LEAVE 0
#endif
#ifndef PCIE
#define PCIE 0
#endif
#ifndef NOISE_KB
#define NOISE_KB 0
#endif

#define EXPORT __attribute__((visibility("default")))
#define QUOTED(x) #x
#define TEXT(x) QUOTED(x)

typedef struct { int size; int data[]; } IntArray;
typedef struct {
  int type;
  void *data;
  IntArray *dims;
  struct { float scale; int32_t zero_point; } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  _Bool data_is_stale, is_variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;
typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void *custom_initial_data;
  int custom_initial_data_size;
  void *delegate;
  _Bool might_have_side_effect;
} Node;
typedef struct Context Context;
typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external, *async_kernel;
  uint64_t inplace_operator;
} Registration;
struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl_;
  int (*ResizeTensor)(Context *, Tensor *, IntArray *);
  void (*ReportError)(Context *, const char *, ...);
  int (*AddTensors)(Context *, int, int *);
  int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const IntArray *, void *);
};
typedef struct Delegate {
  void *data_;
  int (*Prepare)(Context *, struct Delegate *);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *opaque_delegate_builder;
} Delegate;

static int verbosity = 0;

/* The steps: 1 load, 2 devices, 3 open, 4 model, 5 run, 6 close. */
static void step(int number) {
  if (number == CRASH) {
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
  }
  if (number == LEAVE) _exit(3);
  while (number == HANG) sleep(1);
}

__attribute__((constructor)) static void loaded(void) { step(1); }

#ifndef NO_LISTING
EXPORT void edgetpu_verbosity(int level) { verbosity = level; }
EXPORT const char *edgetpu_version(void) { return "BuildLabel(COMPILER=stand-in), RuntimeVersion(" TEXT(RUNTIME) ")"; }

struct device { int type; const char *path; };
#if PCIE
static struct device devices[] = {{0, "/dev/apex_0"}, {0, "/dev/apex_1"}};
#else
static struct device devices[] = {{1, "/sys/bus/usb/devices/2-1"}, {1, "/sys/bus/usb/devices/2-2"}};
#endif

EXPORT struct device *edgetpu_list_devices(size_t *count) {
  step(2);
  *count = DEVICES;
  return DEVICES ? devices : NULL;
}
EXPORT void edgetpu_free_devices(struct device *list) { (void)list; }
#endif

/* The parameters of a delegate's node begin with the delegate; its data are the index of its device. */
static void *op_init(Context *context, const char *buffer, size_t length) {
  (void)context;
  (void)length;
  return (*(Delegate *const *)buffer)->data_;
}

static int op_prepare(Context *context, Node *node) {
  (void)node;
  step(4);
#ifdef PREPARE_ERROR
  context->ReportError(context, PREPARE_ERROR);
  return 1;
#else
  (void)context;
  return 0;
#endif
}

static int op_invoke(Context *context, Node *node) {
  step(5);
#ifdef RUN_ERROR
  context->ReportError(context, RUN_ERROR);
  return 1;
#endif
  int opened = (int)(intptr_t)node->user_data;
  const Tensor *from = &context->tensors[node->inputs->data[0]];
  const Tensor *to = &context->tensors[node->outputs->data[0]];
  if (from->type == 1 && from->bytes == to->bytes) {
    const float *in = from->data;
    float *out = to->data;
    for (size_t i = 0; i < from->bytes / sizeof(float); ++i) out[i] = in[i] + 1 + opened;
  } else {
    memset(to->data, 1 + opened, to->bytes);
  }
  return 0;
}

static int prepare(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->GetExecutionPlan(context, &plan)) return 1;
  int count = plan->size;
  int *nodes = malloc(count * sizeof(int));
  memcpy(nodes, plan->data, count * sizeof(int));
  Registration registration = {op_init, NULL, op_prepare, op_invoke, NULL, 0, "EdgeTpuDelegateForCustomOp", 1, NULL, NULL, 0};
#ifdef OLD_REGISTRATION
  /* A library from before these fields hands over a shorter structure, by value: whatever lies behind it on the stack is taken for them. */
  registration.registration_external = registration.async_kernel = (void *)0x10;
  registration.inplace_operator = UINT64_MAX;
#endif
  IntArray *one = malloc(sizeof(IntArray) + sizeof(int));
  one->size = 1;
  for (int i = 0; i < count; ++i) {
    Node *node;
    Registration *found;
    if (context->GetNodeAndRegistration(context, nodes[i], &node, &found)) return 1;
    if (found->custom_name && !strcmp(found->custom_name, "edgetpu-custom-op")) {
      one->data[0] = nodes[i];
      context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, one, delegate);
    }
  }
  free(one);
  free(nodes);
  return 0;
}

#ifndef NO_PLUGIN
EXPORT Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)report;
  step(3);
  int opened = 0;
  for (size_t i = 0; i < count; ++i) {
    if (strcmp(keys[i], "device")) continue;
    const char *colon = strchr(values[i], ':');
    opened = colon ? atoi(colon + 1) : 0;
    if (!strncmp(values[i], PCIE ? "usb" : "pci", 3)) opened = DEVICES; /* none of that kind */
  }
  for (int i = 0; i < NOISE_KB; ++i) fprintf(stderr, "%01023d\n", i);
#ifdef ANSWER
  printf("%s\n", ANSWER);
  fflush(stdout);
#endif
#ifdef REFUSAL
  if (verbosity >= 1) fprintf(stderr, "%s", REFUSAL);
  return NULL;
#endif
  if (opened >= DEVICES) {
    if (verbosity >= 1) fprintf(stderr, "I tflite/edgetpu_manager_direct.cc:496] Failed allocating Edge TPU device for shared ownership.\n");
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof(Delegate));
  delegate->data_ = (void *)(intptr_t)opened;
  delegate->Prepare = prepare;
  delegate->flags = 1;
  return delegate;
}

EXPORT void tflite_plugin_destroy_delegate(Delegate *delegate) {
  step(6);
  free(delegate);
}
#else
void *not_a_plugin(void) { return (void *)prepare; }
#endif
