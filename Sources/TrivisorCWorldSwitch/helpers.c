// Instructions that translated code carries out without going to Swift: system calls and the returns from them and from
// interrupts, changes of RFLAGS.AC, moves and fills of memory, XSAVE and XRSTOR (extended_state.c).
//
// They run with the guest's vector and x87 registers in the processor, so they are compiled for general registers only.
// Each does the usual case. Whatever is unusual is left to Swift, which knows the whole instruction: a helper that is in
// doubt returns 0.
//
// Where the mode changes, the blocks on the other side are those of another number. Swift notes which that is the first
// time it goes that way, and takes all such notes back when a control register changes.
#include "helpers.h"

enum { CS = 1, SS = 2 };
enum : uint64_t {
  ARITHMETIC = 0x8d5, TF = 0x100, IF = 0x200, DF = 0x400, IOPL = 0x3000, NT = 0x4000, RF = 0x10000, AC = 0x40000, VIRTUAL = 0x180000,
  // What IRET takes from the stack at CPL 0.
  RETURNED = ARITHMETIC | TF | IF | DF | IOPL | NT | RF | AC | 0x200000,
  // What is kept of RFLAGS.
  DEFINED = 0x3f7fd7,
};
// Flat descriptors whose accessed bits are set: limit 4 GiB, base 0.
enum : uint64_t {
  KERNEL_CODE = 0x00af9b000000ffff, KERNEL_DATA = 0x00cf93000000ffff,
  USER_CODE = 0x00affb000000ffff, USER_DATA = 0x00cff3000000ffff,
};

GENERAL_ONLY static uint64_t flags_of(struct cws_state *state) {
  struct cws_system *system = system_of(state);
  uint64_t saved = state->flags;
  return system->flags | system->interrupt_flag | (saved >> 8 & 0xd5) | (saved & 1) << 11 | 2;
}

GENERAL_ONLY static void set_flags(struct cws_state *state, uint64_t flags) {
  struct cws_system *system = system_of(state);
  state->flags = ((flags & 0xd5) | 2) << 8 | (flags >> 11 & 1);
  system->interrupt_flag = flags & IF;
  system->flags = (flags & DEFINED & ~(ARITHMETIC | IF)) | 2;
}

// The instruction is complete.
GENERAL_ONLY static uint64_t go_on(struct cws_state *state, uint64_t mode, uint64_t rip) {
  system_of(state)->mode = mode;
  state->rip = rip;
  state->page = system_of(state)->relative_modes >> mode & 1 ? rip & ~0xfffull : 0;
  uint64_t *cache = (uint64_t *)((char *)state + CWS_JUMP_CACHE) + mode * 2 * 2 * CWS_JUMP_CACHE_ENTRIES;
  uint64_t *entry = cache + 2 * ((rip ^ rip >> CWS_JUMP_CACHE_SHIFT) & (CWS_JUMP_CACHE_ENTRIES - 1));
  if (entry[0] != rip) entry += 2 * CWS_JUMP_CACHE_ENTRIES;
  if (entry[0] == rip) {
    state->target = entry[1];
    return 1;
  }
  state->site = CWS_SITE_COMPLETE;
  return 0;
}

GENERAL_ONLY static void set_segments(struct cws_system *system, uint64_t segments, const uint64_t *selectors) {
  system->segments = segments;
  system->selectors[CS] = selectors[0];
  system->selectors[SS] = selectors[1];
  system->segments_are_plain = segments == CWS_SEGMENTS_OF_CALL;
}

GENERAL_ONLY static uint64_t system_call(struct cws_state *state) {
  struct cws_system *system = system_of(state);
  uint8_t mode = system->neighbours[system->mode].kernel;
  if (mode == CWS_NO_MODE) return 0;
  uint64_t old = flags_of(state) & ~RF, new = old & system->call_flags;
  if (new & (TF | AC)) return 0;
  state->general[RCX] = state->rip;
  state->general[R11] = old;
  set_flags(state, new);
  set_segments(system, CWS_SEGMENTS_OF_CALL, system->call_selectors);
  return go_on(state, mode, system->call_target);
}

// Whether a return may set these flags here.
GENERAL_ONLY static int may_return(struct cws_system *system, uint64_t flags) {
  return !(flags & (TF | NT | AC | VIRTUAL)) && !((flags & IF) && system->event_pending);
}

GENERAL_ONLY static uint64_t system_return(struct cws_state *state) {
  struct cws_system *system = system_of(state);
  uint8_t mode = system->neighbours[system->mode].user;
  uint64_t flags = state->general[R11] & DEFINED & ~(RF | 0x20000), rip = state->general[RCX];
  if (mode == CWS_NO_MODE || rip >> 47 || !may_return(system, flags)) return 0;
  set_flags(state, flags);
  set_segments(system, CWS_SEGMENTS_OF_RETURN, system->return_selectors);
  return go_on(state, mode, rip);
}

// Whether the selector's descriptor, which is read anew each time, is what it should be.
GENERAL_ONLY static int has_descriptor(struct cws_state *state, uint64_t selector, uint64_t wanted) {
  struct cws_system *system = system_of(state);
  uint64_t offset = selector & 0xfff8, room;
  if (selector & 4 || offset + 7 > system->gdt_limit) return 0;
  char *place = find(state, system->gdt_base + offset, 8, CWS_VIEW_SUPERVISOR, 0, &room);
  return place && *(uint64_t *)place == wanted;
}

GENERAL_ONLY static uint64_t interrupt_return(struct cws_state *state) {
  struct cws_system *system = system_of(state);
  uint64_t room;
  if (system->return_is_special || !system->segments_are_plain || system->flags & NT) return 0;
  uint64_t *frame = (uint64_t *)find(state, state->general[RSP], 40, CWS_VIEW_SUPERVISOR, 0, &room);
  if (!frame) return 0;
  uint64_t rip = frame[0], code = frame[1] & 0xffff, flags = frame[2], stack = frame[3], data = frame[4] & 0xffff;
  // At CPL 0 VIF and VIP are taken, too (AMD64 APM vol. 3, "IRET"): set, they are Swift's affair.
  if (!may_return(system, flags & (RETURNED | VIRTUAL))) return 0;
  uint64_t mode = system->mode;
  if (code == system->selectors[CS] && data == system->selectors[SS]) {
    if (!has_descriptor(state, code, KERNEL_CODE)) return 0;
    if (data != 0 && !has_descriptor(state, data, KERNEL_DATA)) return 0;
    uint64_t top = rip >> 47;
    if (top != 0 && top != 0x1ffff) return 0;
  } else {
    mode = system->neighbours[mode].user;
    if (mode == CWS_NO_MODE || rip >> 47) return 0;
    if (code != system->return_selectors[0] || data != system->return_selectors[1]) return 0;
    if (!has_descriptor(state, code, USER_CODE) || !has_descriptor(state, data, USER_DATA)) return 0;
    set_segments(system, CWS_SEGMENTS_OF_RETURN, system->return_selectors);
  }
  // RF counts for breakpoints only, and while there are some, Swift carries IRET out.
  set_flags(state, (flags_of(state) & ~(RETURNED | VIRTUAL)) | (flags & RETURNED & ~RF));
  state->general[RSP] = stack;
  return go_on(state, mode, rip);
}

// POPF. What is asked of it: whether it is CPL 3 (else it is CPL 0), the view.
GENERAL_ONLY static uint64_t pop_flags(struct cws_state *state) {
  struct cws_system *system = system_of(state);
  unsigned view = state->helper >> 24 & 3;
  int is_user = state->helper >> 16 & 1;
  uint64_t old = flags_of(state), changed = RETURNED & ~RF, room;
  if (is_user) {
    if ((old & IOPL) == IOPL) return 0;
    changed &= ~(IOPL | IF);
  }
  uint64_t *place = (uint64_t *)find(state, state->general[RSP], 8, view, 0, &room);
  if (!place) return 0;
  uint64_t new = (old & ~changed & ~RF) | (*place & changed);
  if ((new & TF) || ((new ^ old) & AC)) return 0;
  if ((new & ~old & IF) && system->event_pending) return 0;
  set_flags(state, new);
  state->general[RSP] += 8;
  return 1;
}

// STAC and CLAC.
GENERAL_ONLY static uint64_t change_access(struct cws_state *state, uint64_t wanted) {
  struct cws_system *system = system_of(state);
  uint64_t mode = system->mode;
  if ((system->flags & AC) != wanted) {
    mode = system->neighbours[mode].other_access;
    if (mode == CWS_NO_MODE) return 0;
    system->flags ^= AC;
  }
  return go_on(state, mode, state->rip);
}

// MOVS and STOS upwards, page by page. What is asked of it: log2 of the element's size, whether RCX counts, the view.
GENERAL_ONLY static uint64_t fill_or_move(struct cws_state *state, int moves) {
  unsigned shift = state->helper >> 8 & 3, view = state->helper >> 24 & 3;
  int is_repeated = state->helper >> 16 & 1;
  uint64_t size = 1ull << shift, left = is_repeated ? state->general[RCX] : 1;
  if (system_of(state)->flags & DF) return 0;
  // Then whoever wants the processor gets a chance.
  uint64_t patience = 16;
  while (left > 0) {
    uint64_t room, count = left;
    char *to = find(state, state->general[RDI], size, view, 1, &room), *from = NULL;
    if (!to || patience-- == 0) return 0;
    if (count > room >> shift) count = room >> shift;
    if (moves) {
      from = find(state, state->general[RSI], size, view, 0, &room);
      if (!from) return 0;
      if (count > room >> shift) count = room >> shift;
    }
    uint64_t bytes = count << shift, elements = count;
    // An overlap does what it does on the guest's processor.
    if (moves) {
      switch (shift) {
      case 0: __asm__ volatile("rep movsb" : "+c"(count), "+D"(to), "+S"(from) : : "memory"); break;
      case 1: __asm__ volatile("rep movsw" : "+c"(count), "+D"(to), "+S"(from) : : "memory"); break;
      case 2: __asm__ volatile("rep movsl" : "+c"(count), "+D"(to), "+S"(from) : : "memory"); break;
      default: __asm__ volatile("rep movsq" : "+c"(count), "+D"(to), "+S"(from) : : "memory"); break;
      }
      state->general[RSI] += bytes;
    } else {
      uint64_t value = state->general[RAX];
      switch (shift) {
      case 0: __asm__ volatile("rep stosb" : "+c"(count), "+D"(to) : "a"(value) : "memory"); break;
      case 1: __asm__ volatile("rep stosw" : "+c"(count), "+D"(to) : "a"(value) : "memory"); break;
      case 2: __asm__ volatile("rep stosl" : "+c"(count), "+D"(to) : "a"(value) : "memory"); break;
      default: __asm__ volatile("rep stosq" : "+c"(count), "+D"(to) : "a"(value) : "memory"); break;
      }
    }
    state->general[RDI] += bytes;
    left -= elements;
    if (is_repeated) state->general[RCX] = left;
  }
  return 1;
}

// Called by cws_call.
GENERAL_ONLY uint64_t cws_help(struct cws_state *state) {
  switch ((uint32_t)(state->helper & 0xff)) {
  case CWS_HELP_SYSTEM_CALL: return system_call(state);
  case CWS_HELP_SYSTEM_RETURN: return system_return(state);
  case CWS_HELP_INTERRUPT_RETURN: return interrupt_return(state);
  case CWS_HELP_SET_ACCESS: return change_access(state, AC);
  case CWS_HELP_CLEAR_ACCESS: return change_access(state, 0);
  case CWS_HELP_MOVE_STRING: return fill_or_move(state, 1);
  case CWS_HELP_STORE_STRING: return fill_or_move(state, 0);
  case CWS_HELP_POP_FLAGS: return pop_flags(state);
  case CWS_HELP_SAVE_EXTENDED: return cws_save_extended(state);
  case CWS_HELP_RESTORE_EXTENDED: return cws_restore_extended(state);
  default: return 0;
  }
}
