// Opcodes without an escape byte (AMD64 APM vol. 3, table A-1; Intel SDM vol. 2, table A-2).
//
// 26, 2E, 36, 3E, 64 to 67, F0, F2, F3 and in 64-bit mode 40 to 4F are prefixes and never get here; 0F leads to another
// map; C4, C5 and 62 do unless ModRM.mod is not 3 outside 64-bit mode, 8F does if its low five bits are 8 or more.

enum OneByteMap {
  /// The opcodes without an escape byte; D8 to DF are in `X87Map`.
  static let text: StaticString = """
    # Arithmetic in eight rows of six, with odd ones at each row's end
    00 - ok add +Eb,Gb lock w:oszapc
    01 - ok add +Ev,Gv lock w:oszapc
    02 - ok add +Gb,Eb w:oszapc
    03 - ok add +Gv,Ev w:oszapc
    04 - ok add +al,Ib w:oszapc
    05 - ok add +rAX,Iz w:oszapc
    06 - sens push es |push i64
    07 - sens pop =es |pop i64
    08 - ok or +Eb,Gb lock 0:oc w:szp u:a
    09 - ok or +Ev,Gv lock 0:oc w:szp u:a
    0A - ok or +Gb,Eb 0:oc w:szp u:a
    0B - ok or +Gv,Ev 0:oc w:szp u:a
    0C - ok or +al,Ib 0:oc w:szp u:a
    0D - ok or +rAX,Iz 0:oc w:szp u:a
    0E - sens push cs |push i64
    10 - ok adc +Eb,Gb lock t:c w:oszapc
    11 - ok adc +Ev,Gv lock t:c w:oszapc
    12 - ok adc +Gb,Eb t:c w:oszapc
    13 - ok adc +Gv,Ev t:c w:oszapc
    14 - ok adc +al,Ib t:c w:oszapc
    15 - ok adc +rAX,Iz t:c w:oszapc
    16 - sens push ss |push i64
    17 - sens pop =ss |pop i64
    18 - ok sbb +Eb,Gb lock t:c w:oszapc
    19 - ok sbb +Ev,Gv lock t:c w:oszapc
    1A - ok sbb +Gb,Eb t:c w:oszapc
    1B - ok sbb +Gv,Ev t:c w:oszapc
    1C - ok sbb +al,Ib t:c w:oszapc
    1D - ok sbb +rAX,Iz t:c w:oszapc
    1E - sens push ds |push i64
    1F - sens pop =ds |pop i64
    20 - ok and +Eb,Gb lock 0:oc w:szp u:a
    21 - ok and +Ev,Gv lock 0:oc w:szp u:a
    22 - ok and +Gb,Eb 0:oc w:szp u:a
    23 - ok and +Gv,Ev 0:oc w:szp u:a
    24 - ok and +al,Ib 0:oc w:szp u:a
    25 - ok and +rAX,Iz 0:oc w:szp u:a
    27 - old daa - |+al i64 t:ac w:szapc u:o
    28 - ok sub +Eb,Gb lock w:oszapc
    29 - ok sub +Ev,Gv lock w:oszapc
    2A - ok sub +Gb,Eb w:oszapc
    2B - ok sub +Gv,Ev w:oszapc
    2C - ok sub +al,Ib w:oszapc
    2D - ok sub +rAX,Iz w:oszapc
    2F - old das - |+al i64 t:ac w:szapc u:o
    30 - ok xor +Eb,Gb lock 0:oc w:szp u:a
    31 - ok xor +Ev,Gv lock 0:oc w:szp u:a
    32 - ok xor +Gb,Eb 0:oc w:szp u:a
    33 - ok xor +Gv,Ev 0:oc w:szp u:a
    34 - ok xor +al,Ib 0:oc w:szp u:a
    35 - ok xor +rAX,Iz 0:oc w:szp u:a
    37 - old aaa - |+ax i64 t:a w:ac u:oszp
    38 - ok cmp Eb,Gb w:oszapc
    39 - ok cmp Ev,Gv w:oszapc
    3A - ok cmp Gb,Eb w:oszapc
    3B - ok cmp Gv,Ev w:oszapc
    3C - ok cmp al,Ib w:oszapc
    3D - ok cmp rAX,Iz w:oszapc
    3F - old aas - |+ax i64 t:a w:ac u:oszp
    # 40 to 5F: registers in the opcode (in 64-bit mode 40 to 4F are REX)
    40+r - old inc +Zv i64 w:oszap
    48+r - old dec +Zv i64 w:oszap
    50+r - mem push Zv |push d64
    58+r - mem pop =Zv |pop d64
    # 60 to 6F
    60 - old pusha - |rAX,rCX,rDX,rBX,rBP,rSI,rDI,push8 i64
    61 - old popa - |=rAX,=rCX,=rDX,=rBX,=rBP,=rSI,=rDI,pop8 i64
    62 - old bound Gv,Ma i64
    63 - old arpl +Ew,Gw i64 w:z
    63 - ok movsxd =Gv,Md o64
    63 - ok movsxd =Gv,Rz o64
    68 - mem push Iz |push d64
    69 - ok imul =Gv,Ev,Iz w:oc u:szap
    6A - mem push Is |push d64
    6B - ok imul =Gv,Ev,Is w:oc u:szap
    6C - priv insb - |=Yb,dx,+aDI rep t:d
    6D - priv ins - |=Yz,dx,+aDI rep t:d noW
    6E - priv outsb - |Xb,dx,+aSI rep t:d
    6F - priv outs - |Xz,dx,+aSI rep t:d noW
    # Conditional branches
    70+cc - jcc jCC Jb d64
    # Group 1: the same eight with immediates
    80/0 - ok add +Eb,Ib lock w:oszapc
    80/1 - ok or +Eb,Ib lock 0:oc w:szp u:a
    80/2 - ok adc +Eb,Ib lock t:c w:oszapc
    80/3 - ok sbb +Eb,Ib lock t:c w:oszapc
    80/4 - ok and +Eb,Ib lock 0:oc w:szp u:a
    80/5 - ok sub +Eb,Ib lock w:oszapc
    80/6 - ok xor +Eb,Ib lock 0:oc w:szp u:a
    80/7 - ok cmp Eb,Ib w:oszapc
    81/0 - ok add +Ev,Iz lock w:oszapc
    81/1 - ok or +Ev,Iz lock 0:oc w:szp u:a
    81/2 - ok adc +Ev,Iz lock t:c w:oszapc
    81/3 - ok sbb +Ev,Iz lock t:c w:oszapc
    81/4 - ok and +Ev,Iz lock 0:oc w:szp u:a
    81/5 - ok sub +Ev,Iz lock w:oszapc
    81/6 - ok xor +Ev,Iz lock 0:oc w:szp u:a
    81/7 - ok cmp Ev,Iz w:oszapc
    82/0 - old add +Eb,Ib lock i64 w:oszapc
    82/1 - old or +Eb,Ib lock i64 0:oc w:szp u:a
    82/2 - old adc +Eb,Ib lock i64 t:c w:oszapc
    82/3 - old sbb +Eb,Ib lock i64 t:c w:oszapc
    82/4 - old and +Eb,Ib lock i64 0:oc w:szp u:a
    82/5 - old sub +Eb,Ib lock i64 w:oszapc
    82/6 - old xor +Eb,Ib lock i64 0:oc w:szp u:a
    82/7 - old cmp Eb,Ib i64 w:oszapc
    83/0 - ok add +Ev,Is lock w:oszapc
    83/1 - ok or +Ev,Is lock 0:oc w:szp u:a
    83/2 - ok adc +Ev,Is lock t:c w:oszapc
    83/3 - ok sbb +Ev,Is lock t:c w:oszapc
    83/4 - ok and +Ev,Is lock 0:oc w:szp u:a
    83/5 - ok sub +Ev,Is lock w:oszapc
    83/6 - ok xor +Ev,Is lock 0:oc w:szp u:a
    83/7 - ok cmp Ev,Is w:oszapc
    # Moves
    84 - ok test Eb,Gb 0:oc w:szp u:a
    85 - ok test Ev,Gv 0:oc w:szp u:a
    86 - ok xchg +Eb,+Gb lock
    87 - ok xchg +Ev,+Gv lock
    88 - ok mov =Eb,Gb
    89 - ok mov =Ev,Gv
    8A - ok mov =Gb,Eb
    8B - ok mov =Gv,Ev
    8C - sens mov =Mw,Sw
    8C - sens mov =Rv,Sw
    8D - ok lea =Gv,M-
    8E - sens mov =Sw,Ew
    8F/0 - mem pop =Ev |pop d64
    # 90 to 9F; with REX.B 90 is XCHG
    90 f3 ok pause - b0
    90 - ok nop - b0
    90+r - ok xchg +Zv,+rAX
    98 - ok cbw - |al,=ax os2
    98 - ok cwde - |ax,=eax os4
    98 - ok cdqe - |eax,=rax os8
    99 - ok cwd - |ax,=dx os2
    99 - ok cdq - |eax,=edx os4
    99 - ok cqo - |rax,=rdx os8
    9A - farcall callf Ap |push2,=cs i64
    9B - ok fwait - x87
    9C - sens pushf - |push d64 t:pushf
    9D - sens popf - |pop d64 w:popf
    9E - ok sahf - |ah w:szapc
    9F - ok lahf - |=ah t:szapc
    # Direct offsets and string instructions
    A0 - mem mov =al,Ob
    A1 - mem mov =rAX,Ov
    A2 - mem mov =Ob,al
    A3 - mem mov =Ov,rAX
    A4 - mem movsb - |=Yb,Xb,+aSI,+aDI rep t:d
    A5 - mem movs - |=Yv,Xv,+aSI,+aDI rep t:d
    A6 - mem cmpsb - |Xb,Yb,+aSI,+aDI repz t:d w:oszapc
    A7 - mem cmps - |Xv,Yv,+aSI,+aDI repz t:d w:oszapc
    A8 - ok test al,Ib 0:oc w:szp u:a
    A9 - ok test rAX,Iz 0:oc w:szp u:a
    AA - mem stosb - |=Yb,al,+aDI rep t:d
    AB - mem stos - |=Yv,rAX,+aDI rep t:d
    AC - mem lodsb - |=al,Xb,+aSI rep t:d
    AD - mem lods - |=rAX,Xv,+aSI rep t:d
    AE - mem scasb - |Yb,al,+aDI repz t:d w:oszapc
    AF - mem scas - |Yv,rAX,+aDI repz t:d w:oszapc
    # Immediates into registers
    B0+r - ok mov =Zb,Ib
    B8+r - ok mov =Zv,Iv
    # Group 2: shifts and rotates; C2 to CF between its parts
    C0/0 - ok rol +Eb,Ib w:c u:o maybe
    C0/1 - ok ror +Eb,Ib w:c u:o maybe
    C0/2 - ok rcl +Eb,Ib t:c w:c u:o maybe
    C0/3 - ok rcr +Eb,Ib t:c w:c u:o maybe
    C0/4 - ok shl +Eb,Ib w:szpc u:oa maybe
    C0/5 - ok shr +Eb,Ib w:szpc u:oa maybe
    C0/6 - ok shl +Eb,Ib w:szpc u:oa maybe
    C0/7 - ok sar +Eb,Ib w:szpc u:oa maybe
    C1/0 - ok rol +Ev,Ib w:c u:o maybe
    C1/1 - ok ror +Ev,Ib w:c u:o maybe
    C1/2 - ok rcl +Ev,Ib t:c w:c u:o maybe
    C1/3 - ok rcr +Ev,Ib t:c w:c u:o maybe
    C1/4 - ok shl +Ev,Ib w:szpc u:oa maybe
    C1/5 - ok shr +Ev,Ib w:szpc u:oa maybe
    C1/6 - ok shl +Ev,Ib w:szpc u:oa maybe
    C1/7 - ok sar +Ev,Ib w:szpc u:oa maybe
    C2 - ret ret Iw |pop d64
    C3 - ret ret - |pop d64
    C4 - sens les =Gv,Mp |=es i64
    C5 - sens lds =Gv,Mp |=ds i64
    C6/0 - ok mov =Eb,Ib
    C7/0 - ok mov =Ev,Iz
    C6/7.0 - ud xabort Ib rtm
    C7/7.0 - ud xbegin Jz rtm
    C8 - mem enter Iw,Ib |+rBP,push d64
    C9 - mem leave - |=rBP,leave d64
    CA - farret retf Iw |pop2,=cs
    CB - farret retf - |pop2,=cs
    CC - int int3 -
    CD - int int Ib
    CE - int into - i64 t:o
    CF - iret iret - |pop5,=cs,=ss o64 w:popf
    CF - iret iret - |pop3,=cs i64 w:popf
    D0/0 - ok rol +Eb w:oc
    D0/1 - ok ror +Eb w:oc
    D0/2 - ok rcl +Eb t:c w:oc
    D0/3 - ok rcr +Eb t:c w:oc
    D0/4 - ok shl +Eb w:oszpc u:a
    D0/5 - ok shr +Eb w:oszpc u:a
    D0/6 - ok shl +Eb w:oszpc u:a
    D0/7 - ok sar +Eb w:oszpc u:a
    D1/0 - ok rol +Ev w:oc
    D1/1 - ok ror +Ev w:oc
    D1/2 - ok rcl +Ev t:c w:oc
    D1/3 - ok rcr +Ev t:c w:oc
    D1/4 - ok shl +Ev w:oszpc u:a
    D1/5 - ok shr +Ev w:oszpc u:a
    D1/6 - ok shl +Ev w:oszpc u:a
    D1/7 - ok sar +Ev w:oszpc u:a
    D2/0 - ok rol +Eb,cl w:c u:o maybe
    D2/1 - ok ror +Eb,cl w:c u:o maybe
    D2/2 - ok rcl +Eb,cl t:c w:c u:o maybe
    D2/3 - ok rcr +Eb,cl t:c w:c u:o maybe
    D2/4 - ok shl +Eb,cl w:szpc u:oa maybe
    D2/5 - ok shr +Eb,cl w:szpc u:oa maybe
    D2/6 - ok shl +Eb,cl w:szpc u:oa maybe
    D2/7 - ok sar +Eb,cl w:szpc u:oa maybe
    D3/0 - ok rol +Ev,cl w:c u:o maybe
    D3/1 - ok ror +Ev,cl w:c u:o maybe
    D3/2 - ok rcl +Ev,cl t:c w:c u:o maybe
    D3/3 - ok rcr +Ev,cl t:c w:c u:o maybe
    D3/4 - ok shl +Ev,cl w:szpc u:oa maybe
    D3/5 - ok shr +Ev,cl w:szpc u:oa maybe
    D3/6 - ok shl +Ev,cl w:szpc u:oa maybe
    D3/7 - ok sar +Ev,cl w:szpc u:oa maybe
    # Decimal adjustment, table look-up
    D4 - old aam Ib |+ax i64 w:szp u:oac
    D5 - old aad Ib |+ax i64 w:szp u:oac
    D6 - old salc - |=al i64 t:c
    D7 - mem xlat - |=al,xlat
    # Loops, ports, branches
    E0 - loop loopne Jb |+aCX d64 t:z
    E1 - loop loope Jb |+aCX d64 t:z
    E2 - loop loop Jb |+aCX d64
    E3 - loop jcxz Jb |aCX d64
    E4 - priv in =al,Ib
    E5 - priv in =eAX,Ib noW
    E6 - priv out Ib,al
    E7 - priv out Ib,eAX noW
    E8 - call call Jz |push d64
    E9 - jmp jmp Jz d64
    EA - farjmp jmpf Ap |=cs i64
    EB - jmp jmp Jb d64
    EC - priv in =al,dx
    ED - priv in =eAX,dx noW
    EE - priv out dx,al
    EF - priv out dx,eAX noW
    # F1 to FF, groups 3 to 5
    F1 - int int1 -
    F4 - priv hlt -
    F5 - ok cmc - t:c w:c
    F6/0 - ok test Eb,Ib 0:oc w:szp u:a
    F6/1 - ok test Eb,Ib 0:oc w:szp u:a
    F6/2 - ok not +Eb lock
    F6/3 - ok neg +Eb lock w:oszapc
    F6/4 - ok mul Eb |al,=ax w:oc u:szap
    F6/5 - ok imul Eb |al,=ax w:oc u:szap
    F6/6 - ok div Eb |+ax u:oszapc
    F6/7 - ok idiv Eb |+ax u:oszapc
    F7/0 - ok test Ev,Iz 0:oc w:szp u:a
    F7/1 - ok test Ev,Iz 0:oc w:szp u:a
    F7/2 - ok not +Ev lock
    F7/3 - ok neg +Ev lock w:oszapc
    F7/4 - ok mul Ev |+rAX,=rDX w:oc u:szap
    F7/5 - ok imul Ev |+rAX,=rDX w:oc u:szap
    F7/6 - ok div Ev |+rAX,+rDX u:oszapc
    F7/7 - ok idiv Ev |+rAX,+rDX u:oszapc
    F8 - ok clc - 0:c
    F9 - ok stc - 1:c
    FA - priv cli - w:i
    FB - priv sti - w:i
    FC - ok cld - 0:d
    FD - ok std - 1:d
    FE/0 - ok inc +Eb lock w:oszap
    FE/1 - ok dec +Eb lock w:oszap
    FF/0 - ok inc +Ev lock w:oszap
    FF/1 - ok dec +Ev lock w:oszap
    FF/2 - icall call Ev |push d64
    FF/3 - farcall callf Mp |push2,=cs noW
    FF/4 - ijmp jmp Ev d64
    FF/5 - farjmp jmpf Mp |=cs noW
    FF/6 - mem push Ev |push d64
    """
}
